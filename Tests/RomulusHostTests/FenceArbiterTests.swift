import Glibc
import RomulusCore
import Synchronization
import Testing

@testable import RomulusHost

@Suite struct FenceArbiterTests {
    private let folder = TestFolder()

    /// An agent by the fence-agents convention: `body` sees $action and $plug.
    private func arbiter(_ body: String, timeout: Int = 5000, delay: Int = 0) throws -> FenceArbiter {
        let script = """
            #!/bin/sh
            while IFS='=' read -r name value; do eval "$name=\\$value"; done
            echo "$action $plug" >>\(folder("calls"))
            \(body)
            """
        try folder.write("agent", script + "\n", mode: 0o755)
        return FenceArbiter(
            agent: folder("agent"), options: ["plug=b"], timeoutMilliseconds: timeout, delayMilliseconds: delay)
    }

    private func calls() -> [String] { folder.read("calls").split(separator: "\n").map(String.init) }

    /// Asks for so long, and collects why there is no verdict.
    private func ask(_ arbiter: FenceArbiter, _ side: Side = .primary, milliseconds: Int = 700) -> (
        ArbiterVerdict?, [String]
    ) {
        let end = MonotonicTime.now + .nanoseconds(milliseconds: milliseconds)
        var notes: [String] = []
        let verdict = arbiter.decide(side, note: { notes.append($0) }, isCancelled: { MonotonicTime.now > end })
        return (verdict, notes)
    }

    @Test func itGrantsOnlyWhatTheStatusConfirms() throws {
        let (verdict, notes) = ask(
            try arbiter("case $action in off) exit 0;; status) exit 2;; esac"), milliseconds: 10_000)
        guard case .granted? = verdict else {
            Issue.record("\(notes)")
            return
        }
        #expect(calls() == ["off b", "status b"])
    }

    @Test(arguments: [
        // Says that it is done, and it is not.
        "exit 0",
        // Fails.
        "echo cannot log in; exit 1",
        // Knows nothing of the plug.
        "case $action in off) exit 0;; *) exit 1;; esac",
    ]) func whatIsNotConfirmedIsNotGrantedAndIsTold(body: String) throws {
        let (verdict, notes) = ask(try arbiter(body))
        #expect(verdict == nil)
        #expect(notes.count == 1 && notes[0].contains("has not turned the other host off"))
    }

    @Test func itIsAskedAgainUntilItSucceeds() throws {
        let (verdict, notes) = ask(
            try arbiter("[ -e \(folder("ready")) ] && exit 2; touch \(folder("ready")); exit 1"), milliseconds: 10_000)
        guard case .granted? = verdict else {
            Issue.record("\(notes)")
            return
        }
    }

    @Test func anAgentThatHangsIsEnded() throws {
        let (verdict, notes) = ask(try arbiter("sleep 600", timeout: 200), milliseconds: 1500)
        #expect(verdict == nil)
        #expect(notes.contains { $0.contains("no answer in time") })
    }

    @Test func onlyTheBackupWaitsBeforeItsFirstCall() throws {
        let arbiter = try arbiter("exit 2", delay: 60_000)
        #expect(ask(arbiter, .backup, milliseconds: 300).0 == nil)
        #expect(calls() == [])
        guard case .granted? = ask(arbiter, .primary, milliseconds: 10_000).0 else {
            Issue.record("the primary waited")
            return
        }
    }

    @Test func theTestTurnsNobodyOffAndTellsWhatIsWrong() throws {
        #expect(try arbiter("exit 0").test().allSatisfy { !$0.isProblem })
        #expect(calls() == ["metadata b", "status b"])
        #expect(try arbiter("[ $action = metadata ] || exit 2").test().contains { $0.isProblem })
        #expect(try arbiter("exit 1").test().contains { $0.isProblem })
        let missing = FenceArbiter(agent: "fence_none", options: [], timeoutMilliseconds: 100, delayMilliseconds: 0)
        #expect(missing.test().contains { $0.isProblem && $0.text.contains("fence_none") })
        #expect(throws: ArbiterError.self) { try missing.prepare(.primary) }
    }
}
