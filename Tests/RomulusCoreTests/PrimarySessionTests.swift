import Testing

@testable import RomulusCore

@Suite struct PrimarySessionTests {
    private static let answer = Message.answer(version: .first, features: [], detectTimeoutMilliseconds: 1000)

    private func session(hasBackChannel: Bool = true) -> Held<PrimarySession> {
        Held(
            PrimarySession(
                configuration: .init(
                    patienceNanoseconds: .nanoseconds(milliseconds: 10_000), hasBackChannel: hasBackChannel),
                now: .milliseconds(0)))
    }

    /// A session whose first epoch has been acknowledged at `at`.
    private func protectedSession(at time: MonotonicTime = .milliseconds(100)) -> Held<PrimarySession> {
        let session = session()
        _ = session.handle(.received(Self.answer), now: time)
        _ = session.handle(.framesBegun, now: time)
        _ = session.handle(.epochSent, now: time)
        _ = session.handle(.heard, now: time)
        _ = session.handle(.received(.acknowledgement(Epoch(rawValue: 1))), now: time)
        return session
    }

    @Test func anAnswerBeforeTheFirstCheckpointBeginsFrames() {
        let session = session()
        #expect(session.handle(.received(Self.answer), now: .milliseconds(1)) == [.beginFrames(.first)])
        #expect(!session.isFramed)
        #expect(session.handle(.framesBegun, now: .milliseconds(2)) == [])
        #expect(session.isFramed)
        #expect(session.handle(.firstCheckpointSent, now: .milliseconds(3)) == [])
    }

    @Test func withoutAnAnswerByTheFirstCheckpointTheStreamStaysStockAndAWarningSaysSo() {
        let session = session()
        guard case .log(.warning)? = session.handle(.firstCheckpointSent, now: .milliseconds(1)).first else {
            Issue.record("no warning")
            return
        }
        #expect(session.handle(.received(Self.answer), now: .milliseconds(2)) == [])
        #expect(!session.isFramed)
        #expect(session.handle(.epochSent, now: .milliseconds(3)).first == .commit(Epoch(rawValue: 1)))
        #expect(session.handle(.epochSent, now: .milliseconds(4)) == [.commit(Epoch(rawValue: 2))])
    }

    @Test func anEpochIsCommittedOnlyByItsAcknowledgement() {
        let session = protectedSession()
        #expect(session.acknowledgedEpoch == Epoch(rawValue: 1))
        #expect(session.handle(.epochSent, now: .milliseconds(200)) == [])
        let actions = session.handle(.received(.acknowledgement(Epoch(rawValue: 2))), now: .milliseconds(210))
        #expect(actions == [.commit(Epoch(rawValue: 2))])
    }

    @Test(arguments: [UInt64(1), 3, 0]) func anAcknowledgementOutOfTurnIsAFailedLink(epoch: UInt64) {
        let session = protectedSession()
        _ = session.handle(.epochSent, now: .milliseconds(200))
        let actions = session.handle(.received(.acknowledgement(Epoch(rawValue: epoch))), now: .milliseconds(210))
        guard case .end(.linkBroken)? = actions.last else {
            Issue.record("accepted")
            return
        }
    }

    @Test func anAcknowledgementOfWhatWasNotSentIsAFailedLink() {
        let session = protectedSession()
        guard
            case .end(.linkBroken)? = session.handle(
                .received(.acknowledgement(Epoch(rawValue: 2))), now: .milliseconds(210)
            ).last
        else {
            Issue.record("accepted")
            return
        }
    }

    @Test func aSilentBackupIsSuspectedAtTheDeadlineAndNotBefore() {
        let session = protectedSession(at: .milliseconds(100))
        _ = session.timePassed(now: .milliseconds(849))
        #expect(!session.hasEnded)
        #expect(session.timePassed(now: .milliseconds(850)) == [.end(.backupSilent(milliseconds: 750))])
        #expect(session.timePassed(now: .milliseconds(5000)) == [])
    }

    @Test func beforeTheFirstAcknowledgementPatienceIsLonger() {
        let session = session()
        _ = session.handle(.received(Self.answer), now: .milliseconds(10))
        _ = session.handle(.framesBegun, now: .milliseconds(10))
        _ = session.timePassed(now: .milliseconds(10_009))
        #expect(!session.hasEnded)
        #expect(session.timePassed(now: .milliseconds(10_010)) == [.end(.backupSilent(milliseconds: 10_000))])
    }

    @Test func silenceOfItsOwnIsBrokenByAHeartbeatAndByNothingWhileTheLinkMoves() {
        let session = protectedSession(at: .milliseconds(100))
        #expect(session.timePassed(now: .milliseconds(224)) == [])
        #expect(session.timePassed(now: .milliseconds(225)) == [.send(.heartbeat(Epoch(rawValue: 1)))])
        _ = session.handle(.linkMoved, now: .milliseconds(300))
        #expect(session.timePassed(now: .milliseconds(420)) == [])
        #expect(session.timePassed(now: .milliseconds(425)) == [.send(.heartbeat(Epoch(rawValue: 1)))])
    }

    @Test func aStoppedRunStaysAudibleUntilItsLastWords() {
        let session = protectedSession(at: .milliseconds(100))
        let actions = session.handle(.stopRequested(signalName: "SIGINT"), now: .milliseconds(120))
        #expect(actions == [.end(.stopRequested(signalName: "SIGINT"))])
        #expect(session.timePassed(now: .milliseconds(300)) == [.send(.heartbeat(Epoch(rawValue: 1)))])
        #expect(session.handle(.received(.farewell(.replicaDiscarded, text: "")), now: .milliseconds(310)) == [])
    }

    @Test func withAStockBackupAStopWaitsForTheEndOfTheEpoch() {
        let session = session()
        _ = session.handle(.firstCheckpointSent, now: .milliseconds(0))
        _ = session.handle(.epochSent, now: .milliseconds(1))
        #expect(session.handle(.stopRequested(signalName: "SIGINT"), now: .milliseconds(2)) == [])
        #expect(
            session.handle(.epochSent, now: .milliseconds(3))
                == [.end(.stopRequested(signalName: "SIGINT")), .commit(Epoch(rawValue: 2))])
    }

    @Test func theBackupHearsAtOnceThatTheGuestHasLeft() {
        let session = protectedSession()
        let shutDown = session.handle(.guestLeft(.shutDown), now: .milliseconds(200))
        #expect(
            shutDown == [
                .send(.farewell(.guestShutDown, text: "the guest has shut down")), .end(.guestLeft(.shutDown)),
            ])
        let stock = self.session(hasBackChannel: false)
        #expect(stock.handle(.guestLeft(.destroyed), now: .milliseconds(1)) == [.end(.guestLeft(.destroyed))])
    }

    @Test func theBackupsFarewellEndsTheRun() {
        let session = protectedSession()
        let actions = session.handle(.received(.farewell(.replicaActivated, text: "why")), now: .milliseconds(120))
        #expect(actions == [.end(.backupLeft(.replicaActivated, text: "why"))])
        #expect(session.handle(.epochSent, now: .milliseconds(130)) == [])
    }

    @Test func withoutABackChannelEpochsAreCommittedWhenTheyAreSent() {
        let session = session(hasBackChannel: false)
        #expect(session.handle(.firstCheckpointSent, now: .milliseconds(1)) == [])
        #expect(session.handle(.epochSent, now: .milliseconds(2)).first == .commit(Epoch(rawValue: 1)))
    }

    @Test func aStockLinkThatStandsStillEndsTheRun() {
        let session = session()
        _ = session.handle(.firstCheckpointSent, now: .milliseconds(0))
        _ = session.handle(.linkMoved, now: .milliseconds(5000))
        _ = session.timePassed(now: .milliseconds(14_999))
        #expect(!session.hasEnded)
        #expect(session.timePassed(now: .milliseconds(15_000)) == [.end(.backupSilent(milliseconds: 10_000))])
    }

    @Test(arguments: [Message.heartbeat(.none), .epochEnd(.none, streamBytes: 0), .acknowledgement(Epoch(rawValue: 1))])
    func aMessageOutOfPlaceIsAFailedLink(message: Message) {
        let session = session()
        guard case .end(.linkBroken)? = session.handle(.received(message), now: .milliseconds(1)).last else {
            Issue.record("accepted")
            return
        }
    }
}
