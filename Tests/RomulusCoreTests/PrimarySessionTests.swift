import Testing

@testable import RomulusCore

@Suite struct PrimarySessionTests {
    private func answer(arbiter: ArbiterKind = .none) -> Message {
        .answer(version: .first, arbiter: arbiter, features: [], detectTimeoutMilliseconds: 1000, pageSlots: 0)
    }

    private func session(
        hasBackChannel: Bool = true, arbiter: ArbiterKind = .none, isUnsafeAccepted: Bool = false
    ) -> Held<PrimarySession> {
        Held(
            PrimarySession(
                configuration: .init(
                    guest: "guest", patienceNanoseconds: .nanoseconds(milliseconds: 10_000),
                    hasBackChannel: hasBackChannel, arbiter: arbiter, isUnsafeAccepted: isUnsafeAccepted),
                now: .milliseconds(0)))
    }

    private func framedSession(arbiter: ArbiterKind = .none, at time: MonotonicTime) -> Held<PrimarySession> {
        let session = session(arbiter: arbiter)
        _ = session.handle(.received(answer(arbiter: arbiter)), now: time)
        _ = session.handle(.framesBegun, now: time)
        return session
    }

    /// One whole epoch of two frames; composed and sent at `time`.
    private func sendEpoch(_ session: Held<PrimarySession>, at time: MonotonicTime) {
        _ = session.handle(.guestSuspended, now: time)
        session.value.frameComposed(.init(bytes: 1000, kind: .data), now: time)
        session.value.frameComposed(.init(bytes: 36, kind: .epochEnd), now: time)
        _ = session.handle(.epochSent, now: time)
    }

    /// A session whose first epoch was composed, heard of and acknowledged at `time`.
    private func protectedSession(
        arbiter: ArbiterKind = .none, at time: MonotonicTime = .milliseconds(100)
    ) -> Held<PrimarySession> {
        let session = framedSession(arbiter: arbiter, at: time)
        sendEpoch(session, at: time)
        _ = session.handle(.received(.acknowledgement(Epoch(rawValue: 1), frames: 2)), now: time)
        return session
    }

    // MARK: Until frames

    @Test func anAnswerBeforeTheFirstCheckpointBeginsFrames() {
        let session = session()
        #expect(
            session.handle(.received(answer()), now: .milliseconds(1)) == [.beginFrames(LinkTerms(version: .first))])
        #expect(!session.isFramed)
        #expect(session.handle(.framesBegun, now: .milliseconds(2)) == [])
        #expect(session.isFramed)
        #expect(session.handle(.firstCheckpointSent, now: .milliseconds(3)) == [])
    }

    @Test func hostsWithDifferentArbitersDoNotBegin() {
        let session = session(arbiter: .lease)
        let actions = session.handle(.received(answer(arbiter: .none)), now: .milliseconds(1))
        guard case .end(let end)? = actions.last, case .refused(let why) = end.cause else {
            Issue.record("\(actions)")
            return
        }
        #expect(end.fate == .goesOn(.none) && why.contains("romulus.conf"))
    }

    @Test func withoutAnAnswerByTheFirstCheckpointTheRunIsRefused() {
        let actions = session().handle(.firstCheckpointSent, now: .milliseconds(1))
        guard case .end(let end)? = actions.last, case .refused(let why) = end.cause else {
            Issue.record("\(actions)")
            return
        }
        #expect(actions.contains(.openOutput) && why.contains("-F"))
    }

    @Test func whereThatIsAcceptedTheStreamStaysStockAndAWarningSaysSo() {
        let session = session(isUnsafeAccepted: true)
        guard case .log(.warning)? = session.handle(.firstCheckpointSent, now: .milliseconds(1)).first else {
            Issue.record("no warning")
            return
        }
        #expect(session.handle(.received(answer()), now: .milliseconds(2)) == [])
        #expect(!session.isFramed)
        let first = session.handle(.epochSent, now: .milliseconds(3))
        #expect(first.prefix(2) == [.releaseOutput(Epoch(rawValue: 1)), .commit(Epoch(rawValue: 1))])
        #expect(
            session.handle(.epochSent, now: .milliseconds(4))
                == [.releaseOutput(Epoch(rawValue: 2)), .commit(Epoch(rawValue: 2))])
    }

    // MARK: Epochs and output

    @Test func outputIsHeldAtTheSuspensionAndReleasedOnlyByTheAcknowledgement() {
        let session = protectedSession()
        #expect(session.acknowledgedEpoch == Epoch(rawValue: 1))
        #expect(session.handle(.guestSuspended, now: .milliseconds(200)) == [.holdOutput(Epoch(rawValue: 2))])
        session.value.frameComposed(.init(bytes: 36, kind: .epochEnd), now: .milliseconds(200))
        #expect(session.handle(.epochSent, now: .milliseconds(200)) == [])
        let actions = session.handle(
            .received(.acknowledgement(Epoch(rawValue: 2), frames: 3)), now: .milliseconds(210))
        #expect(actions == [.releaseOutput(Epoch(rawValue: 2)), .commit(Epoch(rawValue: 2))])
    }

    @Test func theFirstEpochEndsOnlyWhenEverythingBeforeItWasHeard() {
        let session = framedSession(at: .milliseconds(0))
        #expect(session.mayEndEpoch)
        session.value.frameComposed(.init(bytes: 5000, kind: .data), now: .milliseconds(1))
        session.value.frameComposed(.init(bytes: 5000, kind: .data), now: .milliseconds(2))
        #expect(!session.mayEndEpoch)
        _ = session.handle(.received(.heard(frames: 1)), now: .milliseconds(3))
        #expect(!session.mayEndEpoch)
        _ = session.handle(.received(.heard(frames: 2)), now: .milliseconds(4))
        #expect(session.mayEndEpoch)
    }

    @Test(arguments: [UInt64(1), 3, 0]) func anAcknowledgementOutOfTurnIsAFailedLink(epoch: UInt64) {
        let session = protectedSession()
        sendEpoch(session, at: .milliseconds(200))
        _ = session.handle(.received(.acknowledgement(Epoch(rawValue: epoch), frames: 4)), now: .milliseconds(210))
        #expect(session.isFrozen, "accepted")
    }

    @Test func anAcknowledgementOfWhatWasNotSentIsAFailedLink() {
        let session = protectedSession()
        _ = session.handle(.received(.acknowledgement(Epoch(rawValue: 2), frames: 2)), now: .milliseconds(210))
        #expect(session.isFrozen, "accepted")
    }

    @Test func toHaveHeardWhatWasNeverSentIsAFailedLink() {
        let session = protectedSession()
        _ = session.handle(.received(.heard(frames: 3)), now: .milliseconds(210))
        #expect(session.isFrozen, "accepted")
    }

    @Test(arguments: [Message.heartbeat(.none), .epochEnd(.none, streamBytes: 0), .heard(frames: 0)])
    func aMessageOutOfPlaceIsAFailedLink(message: Message) {
        let session = session()
        _ = session.handle(.received(message), now: .milliseconds(1))
        #expect(session.hasEnded, "accepted")
    }

    // MARK: The lease

    @Test func theGuestIsFrozenWhenTheLeaseEndsAndNotBefore() {
        let session = protectedSession(at: .milliseconds(100))
        _ = session.timePassed(now: .milliseconds(849))
        #expect(!session.isFrozen)
        let actions = session.timePassed(now: .milliseconds(850))
        guard actions.first == .freezeGuest, case .log(.warning(let text))? = actions.last else {
            Issue.record("\(actions)")
            return
        }
        #expect(text.contains("romulus resume guest") && text.contains("romulus yield guest"))
        #expect(session.timePassed(now: .milliseconds(5000)) == [], "frozen, it is silent, so that the backup may act")
        #expect(!session.hasEnded)
    }

    /// A link that is cut in one direction: the backup is loud and hears nothing.
    @Test func hearingTheBackupRenewsNothing() {
        let session = protectedSession(at: .milliseconds(100))
        for time in stride(from: 200, through: 800, by: 100) {
            _ = session.handle(.heard, now: .milliseconds(time))
            _ = session.handle(.received(.heard(frames: 2)), now: .milliseconds(time))
        }
        #expect(session.timePassed(now: .milliseconds(850)).first == .freezeGuest)
    }

    @Test func theLeaseRunsFromTheComposingOfWhatWasHeard() {
        let session = protectedSession(at: .milliseconds(100))
        session.value.frameComposed(.init(bytes: 28, kind: .data), now: .milliseconds(300))
        _ = session.handle(.received(.heard(frames: 3)), now: .milliseconds(700))
        _ = session.timePassed(now: .milliseconds(1049))
        #expect(!session.isFrozen)
        #expect(session.timePassed(now: .milliseconds(1050)).first == .freezeGuest)
    }

    /// A host that stood still finds the acknowledgement of long ago.
    @Test func nothingIsReleasedOnAnAcknowledgementThatIsReadTooLate() {
        let session = protectedSession(at: .milliseconds(100))
        sendEpoch(session, at: .milliseconds(200))
        let actions = session.handle(
            .received(.acknowledgement(Epoch(rawValue: 2), frames: 4)), now: .milliseconds(10_000))
        #expect(actions.first == .freezeGuest)
        #expect(!actions.contains(.releaseOutput(Epoch(rawValue: 2))))
        #expect(session.isFrozen)
    }

    @Test func aBackupThatIsHeardInTimeAfterAllThawsTheGuestAndCommitsWhatItAcknowledged() {
        let session = protectedSession(at: .milliseconds(100))
        sendEpoch(session, at: .milliseconds(600))
        #expect(session.timePassed(now: .milliseconds(850)).first == .freezeGuest)
        let actions = session.handle(
            .received(.acknowledgement(Epoch(rawValue: 2), frames: 4)), now: .milliseconds(900))
        #expect(actions.first == .thawGuest)
        #expect(actions.suffix(2) == [.releaseOutput(Epoch(rawValue: 2)), .commit(Epoch(rawValue: 2))])
        #expect(!session.isFrozen && !session.hasEnded)
    }

    @Test func onceAnArbiterIsAskedOnlyItsVerdictCounts() {
        let session = protectedSession(arbiter: .lease, at: .milliseconds(100))
        sendEpoch(session, at: .milliseconds(600))
        #expect(session.timePassed(now: .milliseconds(850)).last == .askArbiter)
        #expect(
            session.handle(.received(.acknowledgement(Epoch(rawValue: 2), frames: 4)), now: .milliseconds(900)) == [])
        #expect(session.isFrozen)
    }

    @Test func beforeThereIsAReplicaPatienceIsLongerAndTheGuestGoesOn() {
        let session = framedSession(at: .milliseconds(10))
        _ = session.timePassed(now: .milliseconds(10_009))
        #expect(!session.hasEnded)
        #expect(
            session.timePassed(now: .milliseconds(10_010)) == [
                .stopSave, .openOutput,
                .end(.init(cause: .backupSilent(milliseconds: 10_000), fate: .goesOn(.none))),
            ])
    }

    @Test func theLeaseBeginsWithTheEndOfTheFirstEpochAndNotWithItsAcknowledgement() {
        let session = framedSession(at: .milliseconds(10))
        sendEpoch(session, at: .milliseconds(5000))
        #expect(session.timePassed(now: .milliseconds(5750)).first == .freezeGuest)
    }

    @Test func silenceOfItsOwnIsBrokenByAHeartbeatAndByNothingWhileTheLinkMoves() {
        let session = protectedSession(at: .milliseconds(100))
        #expect(session.timePassed(now: .milliseconds(224)) == [])
        #expect(session.timePassed(now: .milliseconds(225)) == [.send(.heartbeat(Epoch(rawValue: 1)))])
        _ = session.handle(.linkMoved, now: .milliseconds(300))
        #expect(session.timePassed(now: .milliseconds(420)) == [])
        #expect(session.timePassed(now: .milliseconds(425)) == [.send(.heartbeat(Epoch(rawValue: 1)))])
    }

    // MARK: Who goes on

    private let broken = PrimarySession.Cause.linkBroken("torn")

    @Test(arguments: [ArbiterKind.none, .fence, .lease]) func aBrokenLinkFreezesTheGuestAtOnce(arbiter: ArbiterKind) {
        let session = protectedSession(arbiter: arbiter)
        let actions = session.handle(.linkBroken("torn"), now: .milliseconds(200))
        #expect(actions.first == .freezeGuest)
        #expect(actions.contains(.askArbiter) == (arbiter != .none))
        #expect(!actions.contains(.openOutput))
    }

    @Test func aGrantLetsTheGuestGoOnWithItsOutput() {
        let session = protectedSession(arbiter: .fence)
        _ = session.handle(.linkBroken("torn"), now: .milliseconds(200))
        #expect(
            session.handle(.verdict(.granted("off")), now: .milliseconds(900)) == [
                .stopSave, .thawGuest, .openOutput, .end(.init(cause: broken, fate: .goesOn(.ruledOut("off")))),
            ])
    }

    @Test func aRefusalKeepsItFrozenAndThrowsItsOutputAway() {
        let session = protectedSession(arbiter: .lease)
        _ = session.handle(.linkBroken("torn"), now: .milliseconds(200))
        #expect(
            session.handle(.verdict(.refused("taken")), now: .milliseconds(900)) == [
                .stopSave, .dropOutput, .end(.init(cause: broken, fate: .yields("taken"))),
            ])
    }

    @Test func withoutAnArbiterTheAdminDecides() {
        for (word, fate) in [
            (AdminWord.resume, PrimarySession.Fate.goesOn(.ruledOut("the admin said so"))),
            (.yield, .yields("the admin said so")),
        ] {
            let session = protectedSession()
            #expect(session.handle(.adminSaid(word), now: .milliseconds(150)) == [], "nothing to decide yet")
            _ = session.handle(.linkBroken("torn"), now: .milliseconds(200))
            #expect(
                session.handle(.adminSaid(word), now: .milliseconds(90_000)).last
                    == .end(.init(cause: broken, fate: fate)))
        }
    }

    @Test func aGrantOnASilentLinkTellsABackupThatMayOnlyStandStill() {
        let session = protectedSession(at: .milliseconds(100))
        _ = session.timePassed(now: .milliseconds(850))
        let actions = session.handle(.adminSaid(.resume), now: .milliseconds(9000))
        guard case .send(.farewell(.protectionEnded, _))? = actions.first else {
            Issue.record("\(actions)")
            return
        }
    }

    /// It may turn out that the guest cannot run here: the replica must be there until etcd has been told.
    @Test(arguments: [ArbiterKind.fence, .lease], [true, false])
    func aGrantOfEtcdsIsHeardThereAndNotFromThePrimary(arbiter: ArbiterKind, isAdmins: Bool) {
        let session = protectedSession(arbiter: arbiter, at: .milliseconds(100))
        _ = session.timePassed(now: .milliseconds(850))
        let actions = session.handle(
            isAdmins ? .adminSaid(.resume) : .verdict(.granted("why")), now: .milliseconds(900))
        let isTold = actions.contains { if case .send(.farewell(.protectionEnded, _)) = $0 { true } else { false } }
        #expect(isTold == (arbiter == .fence || isAdmins), "\(actions)")
        #expect(actions.contains(.thawGuest))
        #expect(actions.contains(arbiter == .lease ? .openOutputIfGuestRuns : .openOutput))
    }

    @Test func theBackupsFarewellDecidesAtOnceInEitherWay() {
        for isFrozen in [false, true] {
            let session = protectedSession()
            if isFrozen { _ = session.timePassed(now: .milliseconds(850)) }
            let actions = session.handle(
                .received(.farewell(.replicaActivated, text: "why")), now: .milliseconds(isFrozen ? 900 : 120))
            #expect(actions.contains(.dropOutput) && !actions.contains(.thawGuest))
            #expect(actions.contains(.freezeGuest) == !isFrozen)
            #expect(
                actions.last
                    == .end(.init(cause: .backupLeft(text: "why"), fate: .yields("the replica runs on the backup"))))
            #expect(session.handle(.epochSent, now: .milliseconds(930)) == [])
        }
        let session = protectedSession()
        #expect(
            session.handle(.received(.farewell(.replicaDiscarded, text: "why")), now: .milliseconds(120)).last
                == .end(.init(cause: .backupLeft(text: "why"), fate: .goesOn(.discarded))))
    }

    // MARK: What comes while the guest is frozen

    /// The save helper dies, libxl gives up, or a BUFFER fails.
    @Test func aSaveThatEndsWhileFrozenEndsTheRunWhenTheBackupIsHeardAgain() {
        let session = protectedSession(at: .milliseconds(100))
        sendEpoch(session, at: .milliseconds(600))
        #expect(session.timePassed(now: .milliseconds(850)).first == .freezeGuest)
        let kept = session.handle(.saveEnded("torn"), now: .milliseconds(860))
        guard kept.count == 1, case .log(.warning(let text))? = kept.first else {
            Issue.record("\(kept)")
            return
        }
        #expect(text.contains("torn"))
        #expect(session.handle(.saveEnded("again"), now: .milliseconds(870)) == [], "said once")

        let actions = session.handle(.received(.heard(frames: 4)), now: .milliseconds(900))
        #expect(
            actions.prefix(4) == [.thawGuest, .stopSave, .send(.heartbeat(Epoch(rawValue: 2))), .resumeGuest],
            "\(actions)")
        #expect(
            session.handle(.guestResumed(true), now: .milliseconds(905))
                == [.send(.farewell(.primaryFailed, text: "checkpointing failed: torn"))])
        #expect(!actions.contains { if case .log(let line) = $0 { line.text.contains("protected") } else { false } })
        #expect(!session.hasEnded, "the backup has not answered")
        #expect(
            session.handle(.received(.farewell(.replicaDiscarded, text: "")), now: .milliseconds(910)) == [
                .stopSave, .openOutput, .end(.init(cause: .saveEnded("torn"), fate: .goesOn(.discarded))),
            ])
    }

    @Test func aSaveThatEndsWhileFrozenLeavesTheDecisionToWhoeverHasIt() {
        let session = protectedSession(arbiter: .fence)
        _ = session.handle(.linkBroken("torn"), now: .milliseconds(200))
        _ = session.handle(.saveEnded("why"), now: .milliseconds(300))
        #expect(session.isFrozen)
        #expect(
            session.handle(.verdict(.granted("off")), now: .milliseconds(900)).last
                == .end(.init(cause: broken, fate: .goesOn(.ruledOut("off")))))
    }

    /// It was seen only after the freeze. What its on_reboot makes here would be a second copy beside a replica that runs.
    @Test(arguments: [true, false]) func aGuestThatHasShutDownWhileFrozenWaitsForTheDecision(isLinkUsable: Bool) {
        let session = protectedSession(at: .milliseconds(100))
        _ =
            isLinkUsable
            ? session.timePassed(now: .milliseconds(850))
            : session.handle(.linkBroken("torn"), now: .milliseconds(200))
        _ = session.handle(.saveEnded("it does not suspend"), now: .milliseconds(855))
        let kept = session.handle(.guestLeft(.shutDown), now: .milliseconds(860))
        guard kept.count == 1, case .log(.warning(let text))? = kept.first else {
            Issue.record("\(kept)")
            return
        }
        #expect(text.contains("the guest has shut down"))
        #expect(session.handle(.guestLeft(.shutDown), now: .milliseconds(960)) == [], "said once")
        let farewell = PrimarySession.Action.send(.farewell(.guestShutDown, text: "the guest has shut down"))
        #expect(
            session.handle(.adminSaid(.resume), now: .milliseconds(970)) == (isLinkUsable ? [farewell] : []) + [
                .stopSave, .thawGuest, .openOutput,
                .end(.init(cause: .guestLeft(.shutDown), fate: .hasLeft(.ruledOut("the admin said so")))),
            ])
    }

    @Test func aGuestThatHasShutDownWhileFrozenIsToldOfWhenTheBackupIsHeardAgain() {
        let session = protectedSession(at: .milliseconds(100))
        sendEpoch(session, at: .milliseconds(600))
        _ = session.timePassed(now: .milliseconds(850))
        _ = session.handle(.guestLeft(.shutDown), now: .milliseconds(860))
        #expect(
            session.handle(.received(.heard(frames: 4)), now: .milliseconds(900)).prefix(3) == [
                .thawGuest, .stopSave, .send(.farewell(.guestShutDown, text: "the guest has shut down")),
            ])
        #expect(
            session.handle(.received(.farewell(.replicaDiscarded, text: "")), now: .milliseconds(910)).last
                == .end(.init(cause: .guestLeft(.shutDown), fate: .hasLeft(.discarded))))
    }

    @Test func aShutdownThatTheBackupHasNotAnsweredIsNoLicenceToRestart() {
        let session = protectedSession(at: .milliseconds(100))
        _ = session.handle(.guestLeft(.shutDown), now: .milliseconds(120))
        #expect(session.timePassed(now: .milliseconds(850)).contains(.freezeGuest))
        #expect(!session.hasEnded)
        let actions = session.handle(.received(.farewell(.replicaActivated, text: "")), now: .milliseconds(1200))
        guard case .end(let end)? = actions.last, case .yields = end.fate else {
            Issue.record("\(actions)")
            return
        }
    }

    @Test func aGuestThatIsDestroyedAfterItHasShutDownDoesNotComeBack() {
        let session = protectedSession(at: .milliseconds(100))
        _ = session.timePassed(now: .milliseconds(850))
        _ = session.handle(.guestLeft(.shutDown), now: .milliseconds(860))
        #expect(
            session.handle(.guestLeft(.destroyed), now: .milliseconds(870)) == [
                .send(.farewell(.guestShutDown, text: "the guest has shut down")), .stopSave, .dropOutput,
                .end(.init(cause: .guestLeft(.shutDown), fate: .hasLeft(.unknown))),
            ])
    }

    @Test func aGuestThatShutsDownWhileTheRunEndsIsNotSaidToGoOn() {
        let session = protectedSession(at: .milliseconds(100))
        _ = session.handle(.stopRequested(signalName: "SIGINT"), now: .milliseconds(120))
        _ = session.handle(.guestResumed(true), now: .milliseconds(125))
        #expect(session.handle(.guestLeft(.shutDown), now: .milliseconds(130)) == [])
        #expect(
            session.handle(.received(.farewell(.replicaDiscarded, text: "")), now: .milliseconds(140)).last
                == .end(.init(cause: .guestLeft(.shutDown), fate: .hasLeft(.discarded))))
    }

    // MARK: Leaving

    @Test func aStoppedRunEndsWhenTheBackupHasDiscardedItsReplica() {
        let session = protectedSession(at: .milliseconds(100))
        #expect(
            session.handle(.stopRequested(signalName: "SIGINT"), now: .milliseconds(120)) == [.stopSave, .resumeGuest])
        #expect(session.handle(.saveEnded("stopped"), now: .milliseconds(130)) == [])
        let actions = session.handle(.guestResumed(true), now: .milliseconds(140))
        guard actions.count == 1, case .send(.farewell(.protectionEnded, _))? = actions.last else {
            Issue.record("\(actions)")
            return
        }
        #expect(session.timePassed(now: .milliseconds(300)) == [.send(.heartbeat(Epoch(rawValue: 1)))])
        #expect(
            session.handle(.received(.farewell(.replicaDiscarded, text: "")), now: .milliseconds(310)) == [
                .stopSave, .openOutput,
                .end(.init(cause: .stopRequested(signalName: "SIGINT"), fate: .goesOn(.discarded))),
            ])
    }

    /// Its device model is dead, or `xl destroy` is at work: the replica is the only one that can go on.
    @Test func aFailedSaveDiscardsNothingBeforeTheGuestIsKnownToRunHere() {
        let session = protectedSession(at: .milliseconds(100))
        #expect(session.handle(.saveEnded("no QEMU"), now: .milliseconds(120)) == [.stopSave, .resumeGuest])
        let actions = session.handle(.guestResumed(false), now: .milliseconds(130))
        let why = "checkpointing failed (no QEMU), and the guest cannot go on at the primary"
        #expect(
            actions == [
                .freezeGuest, .send(.farewell(.primaryDestroyed, text: why)), .stopSave, .dropOutput,
                .end(.init(cause: .saveEnded("no QEMU"), fate: .yields("it cannot go on here"))),
            ])
        let other = protectedSession(at: .milliseconds(100))
        _ = other.handle(.saveEnded("a bad page"), now: .milliseconds(120))
        guard
            case .send(.farewell(.primaryFailed, _))? = other.handle(.guestResumed(true), now: .milliseconds(130)).last
        else {
            Issue.record("the backup hears nothing")
            return
        }
    }

    private let failed = Message.farewell(.primaryFailed, text: "checkpointing failed: a bad page")

    /// The save has failed, and whether the guest is back is not known yet.
    private func returningSession(arbiter: ArbiterKind = .none) -> Held<PrimarySession> {
        let session = protectedSession(arbiter: arbiter, at: .milliseconds(100))
        #expect(session.handle(.saveEnded("a bad page"), now: .milliseconds(120)) == [.stopSave, .resumeGuest])
        #expect(session.awaitsGuest)
        return session
    }

    /// It has heard what was composed at 600 ms.
    private func hearAgain(_ session: Held<PrimarySession>) -> [PrimarySession.Action] {
        session.value.frameComposed(.init(bytes: 24, kind: .message), now: .milliseconds(600))
        return session.handle(.received(.heard(frames: 3)), now: .milliseconds(870))
    }

    /// libxl may have been at it when the lease ended: what it says then is asked for again.
    @Test(arguments: [nil, true, false] as [Bool?])
    func aSilenceBeforeTheGuestIsBackDelaysTheFarewellAndNothingElse(answerWhileFrozen: Bool?) {
        let session = returningSession()
        #expect(session.timePassed(now: .milliseconds(850)).contains(.freezeGuest))
        #expect(!session.awaitsGuest)
        if let answerWhileFrozen {
            #expect(session.handle(.guestResumed(answerWhileFrozen), now: .milliseconds(860)) == [])
        }
        #expect(session.handle(.saveEnded("again"), now: .milliseconds(865)) == [])
        let heard = hearAgain(session)
        #expect(
            heard.prefix(4) == [.thawGuest, .stopSave, .send(.heartbeat(Epoch(rawValue: 1))), .resumeGuest],
            "\(heard)")
        #expect(session.handle(.guestResumed(true), now: .milliseconds(880)) == [.send(failed)])
        #expect(
            session.handle(.received(.farewell(.replicaDiscarded, text: "")), now: .milliseconds(890)).last
                == .end(.init(cause: .saveEnded("a bad page"), fate: .goesOn(.discarded))))
    }

    @Test func aGuestThatDoesNotComeBackAfterASilenceEitherIsHandedOver() {
        let session = returningSession()
        _ = session.timePassed(now: .milliseconds(850))
        _ = hearAgain(session)
        let actions = session.handle(.guestResumed(false), now: .milliseconds(880))
        guard actions.first == .freezeGuest, case .send(.farewell(.primaryDestroyed, _)) = actions[1] else {
            Issue.record("\(actions)")
            return
        }
        #expect(
            actions.last == .end(.init(cause: .saveEnded("a bad page"), fate: .yields("it cannot go on here"))))
    }

    /// Whether the guest could go on decides nothing while the replica may be about to run; and no answer lets it go on.
    @Test(arguments: [ArbiterKind.none, .lease], [true, false])
    func whoeverDecidesDoesSoAlsoBeforeTheGuestIsBack(arbiter: ArbiterKind, isGranted: Bool) {
        for answer in [nil, true, false] as [Bool?] {
            let session = returningSession(arbiter: arbiter)
            #expect(session.handle(.linkBroken("torn"), now: .milliseconds(200)).first == .freezeGuest)
            if let answer { #expect(session.handle(.guestResumed(answer), now: .milliseconds(210)) == []) }
            #expect(session.isFrozen && !session.hasEnded)
            let verdict = isGranted ? ArbiterVerdict.granted("why") : .refused("why")
            let actions = session.handle(.verdict(verdict), now: .milliseconds(900))
            #expect(actions.contains(.thawGuest) == isGranted && actions.contains(.dropOutput) == !isGranted)
            let fate: PrimarySession.Fate = isGranted ? .goesOn(.ruledOut("why")) : .yields("why")
            #expect(actions.last == .end(.init(cause: .saveEnded("a bad page"), fate: fate)))
        }
    }

    @Test func theBackupsFarewellDecidesAlsoBeforeTheGuestIsBack() {
        let activated = returningSession().handle(
            .received(.farewell(.replicaActivated, text: "why")), now: .milliseconds(130))
        #expect(activated.contains(.freezeGuest) && activated.contains(.dropOutput))
        let session = returningSession()
        #expect(
            session.handle(.received(.farewell(.replicaDiscarded, text: "why")), now: .milliseconds(130)).last
                == .end(.init(cause: .backupLeft(text: "why"), fate: .goesOn(.discarded))))
        #expect(session.handle(.guestResumed(false), now: .milliseconds(140)) == [])
    }

    /// It is not suspended by a checkpoint, so nobody has it to resume, and its replica is not to be its second life.
    @Test(arguments: [PrimarySession.GuestLeave.shutDown, .crashed, .taken], [false, true])
    func aGuestThatLeavesBeforeItIsBackIsNotHandedOver(leave: PrimarySession.GuestLeave, isFrozen: Bool) {
        let session = returningSession()
        let time = isFrozen ? 860 : 130
        if isFrozen { _ = session.timePassed(now: .milliseconds(850)) }
        let left = session.handle(.guestLeft(leave), now: .milliseconds(time))
        let said = isFrozen ? hearAgain(session) : left
        let farewells = said.filter { if case .send(.farewell) = $0 { true } else { false } }
        #expect(farewells.count == 1 && farewells != [.send(failed)] && !said.contains(.resumeGuest), "\(said)")
        #expect(session.handle(.guestResumed(false), now: .milliseconds(time + 20)) == [])
        #expect(
            session.handle(.received(.farewell(.replicaDiscarded, text: "")), now: .milliseconds(time + 30)).last
                == .end(.init(cause: .guestLeft(leave), fate: .hasLeft(.discarded))))
    }

    @Test func aGuestThatIsDestroyedBeforeItIsBackGoesOnThere() {
        #expect(
            returningSession().handle(.guestLeft(.destroyed), now: .milliseconds(130)) == [
                .send(.farewell(.primaryDestroyed, text: "the primary's copy has been destroyed")), .stopSave,
                .dropOutput, .end(.init(cause: .guestLeft(.destroyed), fate: .hasLeft(.unknown))),
            ])
    }

    /// It would speak to the world unheld while the replica may still run.
    @Test func aGuestWhoseOutputCannotBeHeldIsNotResumedBeforeTheReplicaIsGone() {
        let unheld = PrimarySession.Action.send(.farewell(.primaryFailed, text: "checkpointing failed: no plug"))
        let session = protectedSession(at: .milliseconds(100))
        #expect(session.handle(.outputUnheld("no plug"), now: .milliseconds(120)) == [.stopSave, unheld])
        let later = returningSession()
        #expect(later.handle(.outputUnheld("no plug"), now: .milliseconds(130)) == [unheld])
        #expect(!later.awaitsGuest && later.handle(.guestResumed(true), now: .milliseconds(140)) == [])
        let frozen = returningSession()
        _ = frozen.timePassed(now: .milliseconds(850))
        guard case .log(.warning)? = frozen.handle(.outputUnheld("no plug"), now: .milliseconds(860)).first else {
            Issue.record("not kept")
            return
        }
        #expect(hearAgain(frozen).prefix(3) == [.thawGuest, .stopSave, unheld])
    }

    @Test func aFarewellThatIsNotAnsweredIsNoLicenceToGoOn() {
        let session = protectedSession(at: .milliseconds(100))
        _ = session.handle(.stopRequested(signalName: "SIGINT"), now: .milliseconds(120))
        _ = session.handle(.guestResumed(true), now: .milliseconds(120))
        #expect(session.timePassed(now: .milliseconds(850)).contains(.freezeGuest))
        #expect(
            session.handle(.adminSaid(.resume), now: .milliseconds(900)).last
                == .end(
                    .init(
                        cause: .stopRequested(signalName: "SIGINT"), fate: .goesOn(.ruledOut("the admin said so")))))
    }

    @Test func ctrlCDecidesNothingWhileTheGuestIsFrozen() {
        let session = protectedSession(at: .milliseconds(100))
        _ = session.timePassed(now: .milliseconds(850))
        let actions = session.handle(.stopRequested(signalName: "SIGINT"), now: .milliseconds(900))
        guard actions.count == 1, case .log(.warning(let text))? = actions.first else {
            Issue.record("no warning")
            return
        }
        #expect(text.contains("romulus resume guest"))
    }

    @Test func withAStockBackupAStopWaitsForTheEndOfTheEpoch() {
        let session = session(isUnsafeAccepted: true)
        _ = session.handle(.firstCheckpointSent, now: .milliseconds(0))
        _ = session.handle(.epochSent, now: .milliseconds(1))
        #expect(session.handle(.stopRequested(signalName: "SIGINT"), now: .milliseconds(2)) == [])
        let actions = session.handle(.epochSent, now: .milliseconds(3))
        #expect(actions.first == .stopSave && actions.contains(.commit(Epoch(rawValue: 2))))
        #expect(
            actions.last == .end(.init(cause: .stopRequested(signalName: "SIGINT"), fate: .goesOn(.unknown))))
    }

    @Test func aGuestThatIsNoLongerAsItsReplicaIsGoesOnWithoutOne() {
        let session = protectedSession(at: .milliseconds(100))
        let farewell = Message.farewell(.protectionEnded, text: "the guest is no longer as it was: vif 1 has come")
        #expect(
            session.handle(.replicaLacks("vif 1 has come"), now: .milliseconds(120)) == [.stopSave, .resumeGuest])
        #expect(session.handle(.replicaLacks("vif 1 has come"), now: .milliseconds(220)) == [], "told again")
        #expect(session.handle(.guestResumed(true), now: .milliseconds(222)) == [.send(farewell)])
        #expect(session.handle(.replicaLacks("vif 1 has come"), now: .milliseconds(224)) == [], "and again")
        #expect(
            session.handle(.received(.farewell(.replicaDiscarded, text: "")), now: .milliseconds(230)).last
                == .end(.init(cause: .replicaLacks("vif 1 has come"), fate: .goesOn(.discarded))))
    }

    @Test func withAStockBackupAStopDoesNotWaitForAGuestThatIsPaused() {
        let session = session(isUnsafeAccepted: true)
        _ = session.handle(.firstCheckpointSent, now: .milliseconds(0))
        _ = session.handle(.epochSent, now: .milliseconds(1))
        #expect(session.handle(.epochPutOff, now: .milliseconds(2)) == [])
        #expect(session.handle(.stopRequested(signalName: "SIGINT"), now: .milliseconds(3)) == [])
        #expect(
            session.handle(.epochPutOff, now: .milliseconds(4)).last
                == .end(.init(cause: .stopRequested(signalName: "SIGINT"), fate: .goesOn(.unknown))))
    }

    @Test func aGuestThatIsNoLongerAsItsReplicaIsAndCannotBeResumedGoesOnAsThatOne() {
        let session = protectedSession(at: .milliseconds(100))
        _ = session.handle(.replicaLacks("vif 1 has come"), now: .milliseconds(120))
        #expect(
            session.handle(.guestResumed(false), now: .milliseconds(130)).last
                == .end(.init(cause: .replicaLacks("vif 1 has come"), fate: .yields("it cannot go on here"))))
    }

    @Test func whatAGuestGetsWhileItIsFrozenIsToldWhenItIsBack() {
        let session = protectedSession(at: .milliseconds(100))
        _ = session.timePassed(now: .milliseconds(850))
        guard case .log(.warning)? = session.handle(.replicaLacks("vif 1"), now: .milliseconds(860)).first else {
            Issue.record("forgotten")
            return
        }
        #expect(session.handle(.replicaLacks("vif 1"), now: .milliseconds(865)) == [], "told again")
        #expect(hearAgain(session).contains(.resumeGuest))
        #expect(
            session.handle(.guestResumed(true), now: .milliseconds(880))
                == [.send(.farewell(.protectionEnded, text: "the guest is no longer as it was: vif 1"))])
    }

    @Test func withAStockBackupThatToo() {
        let session = session(isUnsafeAccepted: true)
        _ = session.handle(.firstCheckpointSent, now: .milliseconds(0))
        _ = session.handle(.epochSent, now: .milliseconds(1))
        #expect(session.handle(.replicaLacks("vif 1 has come"), now: .milliseconds(2)) == [])
        #expect(
            session.handle(.epochSent, now: .milliseconds(3)).last
                == .end(.init(cause: .replicaLacks("vif 1 has come"), fate: .goesOn(.unknown))))
    }

    @Test func aDestroyedGuestIsHandedOverAtOnceAndItsOutputIsNot() {
        let session = protectedSession()
        let actions = session.handle(.guestLeft(.destroyed), now: .milliseconds(200))
        #expect(
            actions == [
                .send(.farewell(.primaryDestroyed, text: "the primary's copy has been destroyed")), .stopSave,
                .dropOutput, .end(.init(cause: .guestLeft(.destroyed), fate: .hasLeft(.unknown))),
            ])
        let stock = self.session(hasBackChannel: false)
        #expect(
            stock.handle(.guestLeft(.destroyed), now: .milliseconds(1)).last
                == .end(.init(cause: .guestLeft(.destroyed), fate: .hasLeft(.none))))
    }

    @Test func aGuestThatIsSavedOrMigratedAwayTakesItsReplicaAlong() {
        let session = protectedSession(at: .milliseconds(100))
        let farewell = Message.farewell(.primaryFailed, text: "the guest is being saved or migrated by somebody else")
        #expect(
            session.handle(.guestLeft(.taken), now: .milliseconds(200)) == [.stopSave, .send(farewell)])
        // Destroyed when that is done: the backup is not told to take over.
        #expect(
            session.handle(.guestLeft(.destroyed), now: .milliseconds(205)) == [
                .stopSave, .dropOutput, .end(.init(cause: .guestLeft(.taken), fate: .hasLeft(.unknown))),
            ])
    }

    @Test func aCrashIsToldAsOne() {
        let session = protectedSession(at: .milliseconds(100))
        #expect(
            session.handle(.guestLeft(.crashed), now: .milliseconds(200))
                == [.stopSave, .send(.farewell(.guestShutDown, text: "the guest has crashed"))])
        // By whoever did what its on_crash says: the backup is not told to take over.
        #expect(
            session.handle(.guestLeft(.destroyed), now: .milliseconds(205)) == [
                .stopSave, .dropOutput, .end(.init(cause: .guestLeft(.crashed), fate: .hasLeft(.unknown))),
            ])
    }

    @Test func theLastPacketsOfAGuestThatShutDownGoOutOnceItsReplicaIsGone() {
        let session = protectedSession(at: .milliseconds(100))
        #expect(
            session.handle(.guestLeft(.shutDown), now: .milliseconds(200))
                == [.stopSave, .send(.farewell(.guestShutDown, text: "the guest has shut down"))])
        #expect(
            session.handle(.received(.farewell(.replicaDiscarded, text: "")), now: .milliseconds(210)) == [
                .stopSave, .openOutput, .end(.init(cause: .guestLeft(.shutDown), fate: .hasLeft(.discarded))),
            ])
    }

    @Test func withoutABackChannelEpochsAreCommittedWhenTheyAreSent() {
        let session = session(hasBackChannel: false)
        #expect(session.handle(.firstCheckpointSent, now: .milliseconds(1)) == [])
        #expect(session.handle(.epochSent, now: .milliseconds(2)).contains(.commit(Epoch(rawValue: 1))))
    }

    @Test func aStockLinkThatStandsStillEndsTheRun() {
        let session = session(isUnsafeAccepted: true)
        _ = session.handle(.firstCheckpointSent, now: .milliseconds(0))
        _ = session.handle(.linkMoved, now: .milliseconds(5000))
        _ = session.timePassed(now: .milliseconds(14_999))
        #expect(!session.hasEnded)
        #expect(
            session.timePassed(now: .milliseconds(15_000)).last
                == .end(.init(cause: .backupSilent(milliseconds: 10_000), fate: .goesOn(.none))))
    }
}
