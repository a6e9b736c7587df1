"""Run by the Python under test, alone: unittest modules.

Usage: outcomes.py FD MODULE...: for each test one line "OUTCOME TEST" on the descriptor FD.
"""

import os
import sys
import unittest


class Result(unittest.TextTestResult):
    """What became of each test, once: a subtest that failed is its test's failure."""

    def startTestRun(self):
        self.failed = set()

    def say(self, outcome, test):
        os.write(FD, f"{outcome} {test.id()}\n".encode())

    def bad(self, outcome, test):
        if test.id() not in self.failed:
            self.failed.add(test.id())
            self.say(outcome, test)

    def addSuccess(self, test):
        super().addSuccess(test)
        if test.id() not in self.failed:
            self.say("passed", test)

    def addError(self, test, error):
        super().addError(test, error)
        self.bad("error", test)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.bad("failed", test)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.bad("failed", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.bad("skipped", getattr(test, "test_case", test))

    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        self.say("expected-failure", test)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.say("unexpected-success", test)


class Loader(unittest.TestLoader):
    """Without what waits for ever on machines that have AF_VSOCK and nobody at its other end."""

    def getTestCaseNames(self, testCaseClass):
        if "VSOCK" in testCaseClass.__name__:
            return []
        return super().getTestCaseNames(testCaseClass)


if __name__ == "__main__":
    FD = int(sys.argv[1])
    os.set_inheritable(FD, False)
    unittest.main(
        module=None,
        argv=["unittest", "-v", *sys.argv[2:]],
        testLoader=Loader(),
        testRunner=unittest.TextTestRunner(resultclass=Result, verbosity=2),
    )
