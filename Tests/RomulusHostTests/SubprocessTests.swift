import Glibc
import RomulusCore
import Testing

@testable import RomulusHost

@Suite struct SubprocessTests {
    private func sh(_ script: String, input: String = "", timeout: Int = 10_000) -> Subprocess.Outcome {
        Subprocess.run(["/bin/sh", "-c", script], input: input, timeoutMilliseconds: timeout)
    }

    @Test func itTakesInputAndGivesOutputAndStatus() {
        #expect(sh("cat; echo more >&2; exit 3", input: "text\n") == .init(status: 3, output: "text\nmore\n"))
        #expect(sh("kill -9 $$").status == 137)
    }

    @Test func outputBeyondTheLimitIsThrownAwayAndNothingHangs() {
        let outcome = sh("head -c 3000000 /dev/zero")
        #expect(outcome.status == 0 && outcome.output.utf8.count < 100_000)
    }

    @Test func afterItsTimeItIsEndedWithEverythingItHasStarted() {
        let begun = MonotonicTime.now
        let outcome = sh("trap '' TERM; sleep 987.\(getpid()) & sleep 987.\(getpid())", timeout: 300)
        #expect(outcome.status == nil)
        #expect((MonotonicTime.now - begun).inMilliseconds < 8000)
        #expect(sh("ps ax | grep -c '[s]leep 987.\(getpid())'").output == "0\n")
    }

    /// A fence agent may leave somebody behind who keeps its output open: a daemon, an ssh master.
    @Test func whatItLeavesBehindDoesNotKeepItsOutcome() {
        let begun = MonotonicTime.now
        let outcome = sh("sleep 20 & echo done; exit 4", timeout: 15_000)
        #expect(outcome.status == 4 && outcome.output == "done\n")
        #expect((MonotonicTime.now - begun).inMilliseconds < 8000)
    }

    @Test func itCanBeCancelled() {
        let begun = MonotonicTime.now
        let outcome = Subprocess.run(["sleep", "60"], timeoutMilliseconds: 60_000) {
            MonotonicTime.now - begun > 200_000_000
        }
        #expect(outcome.status == nil)
        #expect((MonotonicTime.now - begun).inMilliseconds < 8000)
    }

    @Test func aProgramThatIsNotThereSaysSo() {
        let outcome = Subprocess.run(["/nonexistent/agent"], timeoutMilliseconds: 1000)
        #expect(outcome.status == 127 && outcome.complaint.contains("not a program"))
    }

    /// libxl waits for any child of its process, and warns of one that it does not know.
    @Test func whoeverWaitsForAnyChildSeesItNeitherAliveNorDead() throws {
        func isSeen(_ pid: pid_t) -> Bool {
            var status: Int32 = 0
            return waitpid(-pid, &status, WNOHANG) != -1 || errno != ECHILD
        }
        let child = try Subprocess(["/bin/sh", "-c", "read -r line; exit 7"])
        let pid = child.pid
        #expect(!isSeen(pid))
        #expect(child.end() == 7, "its input has ended")
        #expect(!isSeen(pid))
    }

    /// A link that a fence agent holds open would never end for the other side.
    @Test func noDescriptorOfOursReachesIt() {
        let inherited = open("/dev/null", O_RDONLY)
        defer { close(inherited) }
        // The fourth is the folder that ls reads.
        #expect(sh("exec ls /proc/self/fd").output.split(separator: "\n") == ["0", "1", "2", "3"])
    }
}
