import Testing

@testable import RomulusCore

/// What plugins may decide, and what they may not.
@Suite struct PluginRuleTests {
    @Test func aStepsResultIsNeverWorseThanLibxlsAndNeverBetter() {
        #expect(StepResult.judge(returned: 1, next: 1) == .counts(1))
        #expect(StepResult.judge(returned: 2, next: nil) == .counts(2), "swapped")
        #expect(StepResult.judge(returned: 1, next: 0) == .counts(0))
        #expect(StepResult.judge(returned: 0, next: 0) == .counts(0), "the failure is not the plugin's")
        #expect(StepResult.judge(returned: 0, next: 1) == .failed(result: 1))
        #expect(StepResult.judge(returned: nil, next: 1) == .failed(result: 1))
        #expect(StepResult.judge(returned: nil, next: -1) == .failed(result: -1))
        #expect(StepResult.judge(returned: 0, next: nil) == .failedBeforeNext)
        #expect(StepResult.judge(returned: nil, next: nil) == .failedBeforeNext)
    }

    /// With a replica, at 0 ms, and a timeout of 1000.
    private func doubting(_ arbiter: ArbiterKind = .none) -> Held<BackupSession> {
        let session = Held(
            BackupSession(
                configuration: .init(
                    detectTimeoutMilliseconds: 1000, patienceNanoseconds: .nanoseconds(milliseconds: 5000),
                    arbiter: arbiter, hasSecondOpinion: true),
                now: .milliseconds(0)))
        _ = session.handle(.announced(Announcement()), now: .milliseconds(0))
        _ = session.handle(.framesBegun(.first), now: .milliseconds(0))
        _ = session.handle(.heard, now: .milliseconds(0))
        _ = session.handle(.epochReceived(streamBytes: 1), now: .milliseconds(0))
        _ = session.handle(.received(.epochEnd(Epoch(rawValue: 1), streamBytes: 1)), now: .milliseconds(0))
        return session
    }

    private func asked(_ actions: [BackupSession.Action]) -> Int? {
        for case .askSecondOpinion(_, let times) in actions { return times }
        return nil
    }

    private func hasEnded(_ actions: [BackupSession.Action]) -> Bool {
        actions.contains { if case .end = $0 { true } else { false } }
    }

    private func patience(_ milliseconds: Int) -> BackupSession.Event {
        .secondOpinion(patienceNanoseconds: .nanoseconds(milliseconds: milliseconds))
    }

    @Test func nobodyIsAskedBeforeTheDetectorSuspects() {
        let session = doubting()
        #expect(asked(session.timePassed(now: .milliseconds(999))) == nil)
        _ = session.handle(patience(5000), now: .milliseconds(999))
        #expect(asked(session.timePassed(now: .milliseconds(1000))) == 0, "what nobody asked for does not count")
        #expect(asked(session.timePassed(now: .milliseconds(1001))) == nil, "once")
    }

    @Test func agreementIsASuspicionAtOnce() {
        for arbiter in [ArbiterKind.none, .lease, .plugin] {
            let session = doubting(arbiter)
            _ = session.timePassed(now: .milliseconds(1000))
            _ = session.handle(patience(0), now: .milliseconds(1050))
            let actions = session.timePassed(now: .milliseconds(1050))
            #expect(hasEnded(actions) == (arbiter == .none))
            #expect(actions.contains(.askArbiter) == (arbiter != .none), "whoever decides is still asked")
        }
    }

    @Test func patienceIsAskedForAgainAndASignOfLifeEndsTheDoubt() {
        let session = doubting()
        _ = session.timePassed(now: .milliseconds(1000))
        _ = session.handle(patience(300), now: .milliseconds(1010))
        #expect(!hasEnded(session.timePassed(now: .milliseconds(1309))))
        #expect(asked(session.timePassed(now: .milliseconds(1310))) == 1)
        _ = session.handle(.heard, now: .milliseconds(1320))
        _ = session.timePassed(now: .milliseconds(1320))
        _ = session.handle(patience(9000), now: .milliseconds(1330))
        #expect(asked(session.timePassed(now: .milliseconds(2320))) == 0, "a new silence, and the late answer is void")
    }

    @Test func afterTenTimesTheTimeoutNobodyIsListenedTo() {
        let session = doubting()
        var now = 1000
        while now < 10_000 {
            #expect(!hasEnded(session.timePassed(now: .milliseconds(now))), "at \(now)")
            _ = session.handle(patience(700), now: .milliseconds(now))
            now += 700
        }
        #expect(session.deadline! <= .milliseconds(10_000))
        #expect(hasEnded(session.timePassed(now: .milliseconds(10_000))))
    }

    @Test func anAnswerThatNeverComesEndsAtTheSameMoment() {
        let session = doubting()
        _ = session.timePassed(now: .milliseconds(1000))
        #expect(!hasEnded(session.timePassed(now: .milliseconds(9999))))
        #expect(hasEnded(session.timePassed(now: .milliseconds(10_000))))
    }

    @Test func aBrokenLinkAsksNobodyForPatience() {
        let session = doubting(.fence)
        let actions = session.handle(.linkEnded, now: .milliseconds(10))
        #expect(asked(actions) == nil && actions.contains(.askArbiter))
    }
}
