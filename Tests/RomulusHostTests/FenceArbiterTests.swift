import Glibc
import RomulusCore
import Synchronization
import Testing

@testable import RomulusHost

@Suite struct FenceArbiterTests {
    private let folder = TestFolder()

    /// An agent by the fence-agents convention: `body` sees $action and $plug.
    private func arbiter(
        _ body: String, timeout: Int = 5000, order: FenceOrder = .first, delay: Int? = nil
    ) throws -> FenceArbiter {
        let script = """
            #!/bin/sh
            while IFS='=' read -r name value; do eval "$name=\\$value"; done
            echo "$action $plug" >>\(folder("calls"))
            \(body)
            """
        try folder.write("agent", script + "\n", mode: 0o755)
        var configuration = Configuration()
        configuration.fenceAgent = folder("agent")
        configuration.fenceTimeoutMilliseconds = timeout
        configuration.fenceDelayMilliseconds = delay
        return FenceArbiter(
            configuration, FenceTarget(peer: "b", options: ["plug=b"], order: order), directory: folder.path)
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

    @Test(arguments: [Side.primary, .backup]) func theHostThatGoesSecondWaitsWhicheverSideItIs(side: Side) throws {
        let body =
            "case $action in off) touch \(folder("off"));; status) [ -e \(folder("off")) ] && exit 2; exit 0;; esac"
        let second = try arbiter(body, order: .second, delay: 60_000)
        let (verdict, notes) = ask(second, side, milliseconds: 300)
        #expect(
            verdict == nil && notes.count == 1 && notes[0].hasPrefix("in 60000 ms this host turns the other one off"))
        #expect(!calls().contains("off b"))
        guard case .granted? = ask(try arbiter(body, order: .first, delay: 60_000), side, milliseconds: 10_000).0 else {
            Issue.record("the first waited")
            return
        }
    }

    @Test func theSecondTurnsTheOtherOffWhenItsTimeHasCome() throws {
        let body =
            "case $action in off) touch \(folder("off"));; status) [ -e \(folder("off")) ] && exit 2; exit 0;; esac"
        guard case .granted? = ask(try arbiter(body, order: .second, delay: 700), milliseconds: 10_000).0 else {
            Issue.record("never")
            return
        }
        #expect(calls().last == "status b" && calls().contains("off b") && calls().first == "status b")
    }

    /// The network that the switches are on was away for both hosts: the first is to have its time when it is back.
    @Test func theSecondsTimeBeginsWhenItsAgentReachesTheSwitch() throws {
        let body =
            "case $action in off) touch \(folder("off"));; status) [ -e \(folder("off")) ] && exit 2;"
            + " [ -e \(folder("reached")) ] && exit 0; exit 1;; esac"
        let second = try arbiter(body, order: .second, delay: 1000)
        let back = Mutex<MonotonicTime?>(nil)
        let repair = try RomulusHost.Thread(name: "repair") {
            usleep(2_500_000)
            if !calls().contains("off b"), (try? folder.write("reached", "")) != nil { back.withLock { $0 = .now } }
        }
        let (verdict, _) = ask(second, milliseconds: 20_000)
        let granted = MonotonicTime.now
        repair.join()
        guard case .granted? = verdict, let back = back.withLock({ $0 }) else {
            Issue.record("\(calls())")
            return
        }
        #expect(granted - back > .nanoseconds(milliseconds: 1000), "\(calls())")
    }

    @Test func whoStandsStillWithTheTurnHoldsUpNobodyForEver() throws {
        let first = try arbiter("exit 2", timeout: 100)
        let held = first.turn.take()
        let (verdict, _) = ask(first, milliseconds: 15_000)
        withExtendedLifetime(held) {}
        guard case .granted? = verdict else {
            Issue.record("\(calls())")
            return
        }
    }

    /// It has lost its power, or somebody has turned it off: nobody is there to turn this one off.
    @Test func aHostThatIsOffAlreadyIsNotWaitedFor() throws {
        let (verdict, _) = ask(try arbiter("exit 2", order: .second, delay: 60_000), .backup, milliseconds: 10_000)
        #expect(verdict == .granted("\(folder("agent")) says that the other host is off"))
        #expect(calls() == ["status b"])
    }

    /// All guests of a host that has lost its peer ask at the same moment.
    @Test func ofManyGuestsOneCallsTheAgentAndAllAreGranted() throws {
        let arbiter = try arbiter("sleep 0.5; exit 2")
        let granted = Mutex(0)
        let threads = try (0..<6).map { _ in
            try RomulusHost.Thread(name: "ask") {
                if case .granted? = ask(arbiter, milliseconds: 10_000).0 { granted.withLock { $0 += 1 } }
            }
        }
        for thread in threads { thread.join() }
        #expect(granted.withLock { $0 } == 6)
        #expect(calls() == ["off b", "status b"])
        // One that suspects later does not live on old news: the host may be up again.
        _ = ask(arbiter, milliseconds: 10_000)
        #expect(calls().count == 4)
    }

    /// What the agent has begun may still happen, so it is waited for, and counts.
    @Test func aQuestionThatIsWithdrawnFinishesItsCallAndBeginsNoOther() throws {
        let body = "case $action in off) touch \(folder("begun")); sleep 1;; status) exit \(2);; esac"
        let desk = try desk(try arbiter(body))
        try desk.ask()
        while access(folder("begun"), F_OK) != 0 { usleep(10_000) }
        desk.withdraw()
        guard case .verdict(.granted)? = answer(of: desk) else {
            Issue.record("the other host is off, and nobody knows")
            return
        }
        let waiting = try self.desk(try arbiter("exit 0", order: .second, delay: 60_000))
        try waiting.ask()
        waiting.withdraw()
        #expect(answer(of: waiting) == .withdrawn)
    }

    @Test func theAdminsWordEndsTheAskingAndSaysWhatTheOtherHostMayDo() throws {
        let desk = try desk(try arbiter("exit 1"))
        try desk.ask()
        #expect(try desk.settle(.resume))
        #expect(try !desk.settle(.yield), "the first word is on its way")
        #expect(answer(of: desk) == .word(.resume, isTold: false))
    }

    private func desk(_ arbiter: FenceArbiter) throws -> ArbiterDesk {
        try ArbiterDesk(
            {
                arbiter.decide(
                    .backup, note: { _ in }, isWithdrawn: $0.isWithdrawn, isCancelled: $0.isCancelled)
            }, settling: { arbiter.settle($0, by: .backup, guest: "test", Log(guest: "test")) })
    }

    private func answer(of desk: ArbiterDesk) -> ArbiterDesk.Answer? {
        var polls = PollSet()
        polls.add(desk.descriptor, reading: true)
        polls.wait(until: .now + 10_000_000_000)
        defer { desk.close() }
        return desk.takeAnswer()
    }

    @Test func theTestTurnsNobodyOffAndTellsWhatIsWrong() throws {
        #expect(try arbiter("exit 0").test().allSatisfy { !$0.isProblem })
        #expect(calls() == ["metadata b", "status b"])
        #expect(try arbiter("[ $action = metadata ] || exit 2").test().contains { $0.isProblem })
        #expect(try arbiter("exit 1").test().contains { $0.isProblem })
        var configuration = Configuration()
        configuration.fenceAgent = "fence_none"
        let missing = FenceArbiter(
            configuration, FenceTarget(peer: "b", options: [], order: .first), directory: folder.path)
        #expect(missing.test().contains { $0.isProblem && $0.text.contains("fence_none") })
        #expect(throws: ArbiterError.self) { try missing.prepare(.primary) }
    }
}
