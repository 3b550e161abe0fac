import Testing

@testable import RomulusCore

@Suite struct BackupSessionTests {
    private func session(arbiter: ArbiterKind = .none) -> Held<BackupSession> {
        Held(
            BackupSession(
                configuration: .init(
                    detectTimeoutMilliseconds: 1000, patienceNanoseconds: .nanoseconds(milliseconds: 10_000),
                    arbiter: arbiter),
                now: .milliseconds(0)))
    }

    private func framedSession(arbiter: ArbiterKind = .none) -> Held<BackupSession> {
        let session = session(arbiter: arbiter)
        _ = session.handle(.announced(Announcement()), now: .milliseconds(1))
        _ = session.handle(.framesBegun(.first), now: .milliseconds(2))
        return session
    }

    private func epoch(_ number: UInt64, _ session: Held<BackupSession>, at time: Int) -> [BackupSession.Action] {
        _ = session.handle(.epochReceived(streamBytes: 100), now: .milliseconds(time))
        return session.handle(
            .received(.epochEnd(Epoch(rawValue: number), streamBytes: 100)), now: .milliseconds(time))
    }

    @Test func anAnnouncementIsAnsweredWithThisHostsTimeout() {
        let session = session(arbiter: .lease)
        #expect(
            session.handle(.announced(Announcement(features: Features(rawValue: 6), run: 9)), now: .milliseconds(1))
                == [
                    .send(
                        .answer(
                            version: .first, arbiter: .lease, features: [], detectTimeoutMilliseconds: 1000,
                            pageSlots: 0))
                ])
        #expect(session.run == 9)
    }

    @Test func aPrimaryThatIsTooNewIsTreatedAsStockWithAWarning() {
        let session = session()
        let newer = Announcement(oldestVersion: .init(rawValue: 2), newestVersion: .init(rawValue: 3))
        guard case .log(.warning)? = session.handle(.announced(newer), now: .milliseconds(1)).first else {
            Issue.record("no warning")
            return
        }
        #expect(session.handle(.epochReceived(streamBytes: 1), now: .milliseconds(2)).count == 1)
        #expect(session.lastEpoch == Epoch(rawValue: 1))
    }

    @Test func anEpochIsAcknowledgedOnlyWhenItsEndConfirmsIt() {
        let session = framedSession()
        _ = session.handle(.frameTaken(bytes: 120, count: 5), now: .milliseconds(3))
        #expect(session.handle(.epochReceived(streamBytes: 100), now: .milliseconds(3)) == [])
        #expect(session.lastEpoch == .none)
        let actions = session.handle(
            .received(.epochEnd(Epoch(rawValue: 1), streamBytes: 100)), now: .milliseconds(4))
        #expect(actions.first == .send(.acknowledgement(Epoch(rawValue: 1), frames: 5)))
        #expect(session.lastEpoch == Epoch(rawValue: 1))
    }

    @Test func withoutRoomForTheNextEpochTheAcknowledgementWaitsAndTheLinkIsReadAllTheSame() {
        let session = framedSession()
        _ = session.value.setRoom(false)
        #expect(!epoch(1, session, at: 3).contains { if case .send = $0 { true } else { false } })
        #expect(session.lastEpoch == Epoch(rawValue: 1), "it counts, should the primary fail now")
        #expect(session.value.setRoom(true) == [.send(.acknowledgement(Epoch(rawValue: 1), frames: 0))])
        #expect(session.value.setRoom(true) == [], "once")
    }

    @Test func whatWasHeardIsSaidBeforeTheWindowOfThePrimaryIsFull() {
        let session = framedSession()
        #expect(session.handle(.frameTaken(bytes: 200 << 10, count: 1), now: .milliseconds(3)) == [])
        #expect(
            session.handle(.frameTaken(bytes: 200 << 10, count: 2), now: .milliseconds(4))
                == [.send(.heard(frames: 2))])
        #expect(session.handle(.frameTaken(bytes: 200 << 10, count: 3), now: .milliseconds(5)) == [])
    }

    @Test(arguments: [(UInt64(2), UInt64(100)), (1, 99), (0, 100)])
    func anEndThatDoesNotFitIsAFailedLink(number: UInt64, bytes: UInt64) {
        let session = framedSession()
        _ = session.handle(.epochReceived(streamBytes: 100), now: .milliseconds(3))
        let actions = session.handle(
            .received(.epochEnd(Epoch(rawValue: number), streamBytes: bytes)), now: .milliseconds(4))
        guard case .end(.discard)? = actions.last else {
            Issue.record("accepted")
            return
        }
        #expect(session.lastEpoch == .none)
    }

    @Test func beforeTheFirstCompleteCheckpointEveryFailureDiscards() {
        for event in [BackupSession.Event.linkEnded, .linkBroken("x"), .restorerFailed] {
            let session = framedSession()
            guard case .end(.discard)? = session.handle(event, now: .milliseconds(5)).last else {
                Issue.record("\(event)")
                continue
            }
        }
    }

    /// Until then the primary may run on the strength of what was heard last.
    @Test func afterItABrokenLinkIsAFailoverAtTheDeadlineAndNotBefore() {
        let session = framedSession()
        _ = session.handle(.heard, now: .milliseconds(3))
        _ = epoch(1, session, at: 3)
        let suspicion = session.handle(.linkEnded, now: .milliseconds(500))
        guard suspicion.count == 1, case .log(.warning)? = suspicion.first else {
            Issue.record("no warning")
            return
        }
        #expect(session.isSuspecting && session.deadline == .milliseconds(1003))
        #expect(session.handle(.heard, now: .milliseconds(600)) == [])
        #expect(session.timePassed(now: .milliseconds(1002)) == [])
        let cause = "the link to the primary ended without a farewell"
        #expect(session.timePassed(now: .milliseconds(1003)) == [.end(.failOver(cause: cause))])
        #expect(
            session.value.farewell(afterRestore: true, cause: cause) == .farewell(.replicaActivated, text: cause))
        guard case .farewell(.replicaDiscarded, _)? = session.value.farewell(afterRestore: false, cause: cause) else {
            Issue.record("a restore that failed is no replica")
            return
        }
    }

    @Test func aFenceIsAskedAtOnceAndALeaseAtTheDeadline() {
        let fence = framedSession(arbiter: .fence)
        _ = epoch(1, fence, at: 3)
        #expect(fence.handle(.linkEnded, now: .milliseconds(5)).last == .askArbiter)
        let lease = framedSession(arbiter: .lease)
        _ = epoch(1, lease, at: 3)
        #expect(!lease.handle(.linkEnded, now: .milliseconds(5)).contains(.askArbiter))
        #expect(lease.timePassed(now: .milliseconds(1001)).last == .askArbiter)
        #expect(lease.deadline == nil)
    }

    @Test func theVerdictOrTheAdminDecides() {
        let cases: [(BackupSession.Event, isTakenOver: Bool)] = [
            (.verdict(.granted("x")), true), (.verdict(.refused("x")), false), (.adminSaid(.resume), true),
            (.adminSaid(.yield), false),
        ]
        for (event, isTakenOver) in cases {
            let session = framedSession(arbiter: .fence)
            _ = epoch(1, session, at: 3)
            if event != .adminSaid(.yield) {
                #expect(session.handle(event, now: .milliseconds(4)) == [], "nobody has asked")
            }
            _ = session.handle(.linkEnded, now: .milliseconds(5))
            _ = session.timePassed(now: .milliseconds(90_000))
            #expect(!session.hasEnded, "nobody has answered")
            guard case .end(let end)? = session.handle(event, now: .milliseconds(90_001)).last else {
                Issue.record("\(event)")
                continue
            }
            #expect(isTakenOver == { if case .failOver = end { true } else { false } }(), "\(event)")
        }
    }

    @Test func aSuspicionIsFinalAndNothingIsSaidToHaveBeenHeardAfterIt() {
        let session = framedSession(arbiter: .lease)
        _ = session.handle(.heard, now: .milliseconds(3))
        _ = epoch(1, session, at: 3)
        _ = session.timePassed(now: .milliseconds(1003))
        #expect(session.handle(.frameTaken(bytes: 1 << 20, count: 9), now: .milliseconds(1004)) == [])
        #expect(session.handle(.received(.heartbeat(.none)), now: .milliseconds(1004)) == [])
        #expect(session.timePassed(now: .milliseconds(5000)) == [])
    }

    /// One whose arbiter was asked, because nothing came any more; the link may come back.
    private func suspectingSession(_ arbiter: ArbiterKind) -> Held<BackupSession> {
        let session = framedSession(arbiter: arbiter)
        _ = epoch(1, session, at: 100)
        #expect(session.timePassed(now: .milliseconds(1200)).last == .askArbiter)
        return session
    }

    private let goesOn = BackupSession.Event.received(
        .farewell(.protectionEnded, text: "the guest goes on at the primary: the admin said so"))

    /// Hours after the admin has let the guest go on at the primary, an agent that works again would turn its host off.
    @Test func aFarewellInASuspicionEndsTheAskingAndNothingThatHasBegun() {
        let session = suspectingSession(.fence)
        #expect(session.listensForFarewell)
        #expect(session.handle(goesOn, now: .milliseconds(5000)) == [.withdrawQuestion])
        #expect(session.handle(goesOn, now: .milliseconds(5001)) == [])
        let actions = session.handle(.questionWithdrawn, now: .milliseconds(5002))
        guard case .send(.farewell(.replicaDiscarded, _))? = actions.first,
            case .end(.discard(let cause))? = actions.last
        else {
            Issue.record("\(actions)")
            return
        }
        #expect(cause.contains("the admin said so"))
        // The agent was at it: the other host is off.
        let other = suspectingSession(.fence)
        _ = other.handle(goesOn, now: .milliseconds(5000))
        guard case .end(.failOver)? = other.handle(.verdict(.granted("off")), now: .milliseconds(5001)).last else {
            Issue.record("the guest runs nowhere")
            return
        }
    }

    @Test func whereTheArbiterKeepsTheAnswerTheFarewellDoesNot() {
        for arbiter in [ArbiterKind.lease, .plugin] {
            #expect(suspectingSession(arbiter).handle(goesOn, now: .milliseconds(5000)) == [])
        }
        let gone = BackupSession.Event.received(.farewell(.primaryDestroyed, text: "destroyed"))
        #expect(
            suspectingSession(.lease).handle(gone, now: .milliseconds(5000)) == [.end(.failOver(cause: "destroyed"))])
    }

    /// The primary may still have its right to run.
    @Test func anAdminWhoIsTooEarlyIsObeyedAtTheDeadline() {
        let session = framedSession(arbiter: .lease)
        _ = epoch(1, session, at: 100)
        _ = session.handle(.linkEnded, now: .milliseconds(200))
        #expect(session.handle(.adminSaid(.resume), now: .milliseconds(201)) == [])
        #expect(session.timePassed(now: .milliseconds(900)) == [])
        guard case .end(.failOver(let cause))? = session.timePassed(now: .milliseconds(1200)).last else {
            Issue.record("nobody runs it")
            return
        }
        #expect(cause.hasSuffix("; the admin said so"))
    }

    @Test func silenceIsSuspectAtTheDeadlineAndNotBefore() {
        let session = framedSession()
        _ = epoch(1, session, at: 100)
        _ = session.handle(.heard, now: .milliseconds(100))
        _ = session.timePassed(now: .milliseconds(1099))
        #expect(!session.hasEnded)
        guard case .end(.failOver(let cause))? = session.timePassed(now: .milliseconds(1100)).last else {
            Issue.record("not suspected")
            return
        }
        #expect(cause == "no byte from the primary for 1000 ms")
    }

    @Test func aStockPrimaryHasLongerPatience() {
        let session = session()
        _ = session.handle(.epochReceived(streamBytes: 1), now: .milliseconds(100))
        _ = session.handle(.heard, now: .milliseconds(100))
        _ = session.timePassed(now: .milliseconds(10_099))
        #expect(!session.hasEnded)
        guard case .end(.failOver)? = session.timePassed(now: .milliseconds(10_100)).last else {
            Issue.record("not suspected")
            return
        }
    }

    @Test func whileNothingIsReadSilenceProvesNothing() {
        let session = framedSession()
        _ = epoch(1, session, at: 100)
        session.value.setListening(false, now: .milliseconds(200))
        _ = session.timePassed(now: .milliseconds(9000))
        #expect(!session.hasEnded)
        session.value.setListening(true, now: .milliseconds(9000))
        _ = session.timePassed(now: .milliseconds(9999))
        #expect(!session.hasEnded)
        _ = session.timePassed(now: .milliseconds(10_000))
        #expect(session.hasEnded)
    }

    /// The first epoch's end may wait with what is behind it until libxl has taken what came before: nothing is read then, and
    /// the primary's lease has just begun.
    @Test(arguments: [ArbiterKind.none, .lease]) func whatIsDamagedBehindTheFirstEndIsNoReasonToHurry(
        arbiter: ArbiterKind
    ) {
        let session = framedSession(arbiter: arbiter)
        session.value.setListening(false, now: .milliseconds(100))
        _ = epoch(1, session, at: 5000)
        let suspicion = session.handle(.linkBroken("what arrived is damaged"), now: .milliseconds(5000))
        #expect(session.isSuspecting && session.deadline == .milliseconds(6000), "\(suspicion)")
        #expect(session.timePassed(now: .milliseconds(5999)) == [])
        #expect(session.timePassed(now: .milliseconds(6000)) != [])
    }

    @Test(arguments: [FarewellReason.protectionEnded, .guestShutDown, .primaryFailed])
    func aFarewellDiscardsTheReplica(reason: FarewellReason) {
        let session = framedSession()
        _ = epoch(1, session, at: 3)
        let actions = session.handle(.received(.farewell(reason, text: "bye")), now: .milliseconds(4))
        guard case .send(.farewell(.replicaDiscarded, _))? = actions.first, case .end(.discard)? = actions.last else {
            Issue.record("\(actions)")
            return
        }
    }

    @Test func aDestroyedPrimaryHandsTheGuestOver() {
        let session = framedSession()
        _ = epoch(1, session, at: 3)
        let actions = session.handle(.received(.farewell(.primaryDestroyed, text: "gone")), now: .milliseconds(4))
        #expect(actions == [.end(.failOver(cause: "gone"))])
    }

    @Test func aHeartbeatIsSentWhenNothingElseWas() {
        let session = framedSession()
        _ = session.handle(.messageSent, now: .milliseconds(50))
        #expect(session.timePassed(now: .milliseconds(174)) == [])
        #expect(session.timePassed(now: .milliseconds(175)) == [.send(.heard(frames: 0))])
    }

    // MARK: A backup that is asked to stop

    private static let orders: [(BackupSession.Event, text: String)] = [
        (.stopRequested(signalName: "SIGTERM"), "the backup was asked to stop (SIGTERM)"),
        (.adminSaid(.yield), "the backup was asked to stop (romulus yield)"),
    ]

    /// It speaks after the order, so it lives and has the guest.
    @Test func aBackupThatIsAskedToStopSaysFarewellAsSoonAsThePrimaryIsHeard() {
        for (order, text) in Self.orders {
            let session = framedSession(arbiter: .fence)
            _ = epoch(1, session, at: 3)
            _ = session.handle(.heard, now: .milliseconds(3))
            #expect(session.handle(order, now: .milliseconds(100)) == [])
            #expect(session.isAskedToStop && !session.hasEnded)
            #expect(session.timePassed(now: .milliseconds(110)) == [])
            #expect(session.handle(.heard, now: .milliseconds(120)) == [])
            #expect(
                session.timePassed(now: .milliseconds(120)) == [
                    .send(.farewell(.replicaDiscarded, text: text)), .end(.discard(cause: text)),
                ])
        }
    }

    @Test func aPrimaryThatHandsTheGuestOverIsHeardFirst() {
        let session = framedSession()
        _ = epoch(1, session, at: 3)
        _ = session.handle(.stopRequested(signalName: "SIGTERM"), now: .milliseconds(100))
        _ = session.handle(.heard, now: .milliseconds(110))
        #expect(
            session.handle(.received(.farewell(.primaryDestroyed, text: "gone")), now: .milliseconds(110))
                == [.end(.failOver(cause: "gone"))])
    }

    @Test func beforeThereIsAReplicaOrWithAStockPrimaryItStopsAtOnce() {
        let early = framedSession()
        let text = "the backup was asked to stop (SIGTERM)"
        #expect(
            early.handle(.stopRequested(signalName: "SIGTERM"), now: .milliseconds(100)) == [
                .send(.farewell(.replicaDiscarded, text: text)), .end(.discard(cause: text)),
            ])
        let stock = session()
        _ = stock.handle(.epochReceived(streamBytes: 1), now: .milliseconds(3))
        #expect(
            stock.handle(.stopRequested(signalName: "SIGTERM"), now: .milliseconds(100))
                == [.end(.discard(cause: text))])
    }

    /// A primary that dies in that moment leaves the only copy here.
    @Test func anOrderToStopIsNotFollowedWhereThePrimaryIsNotHeardAnyMore() {
        let session = framedSession()
        _ = epoch(1, session, at: 3)
        _ = session.handle(.heard, now: .milliseconds(3))
        _ = session.handle(.stopRequested(signalName: "SIGTERM"), now: .milliseconds(100))
        let actions = session.timePassed(now: .milliseconds(1003))
        guard case .log(.warning(let text))? = actions.first else {
            Issue.record("\(actions)")
            return
        }
        #expect(text.contains("SIGTERM") && text.contains("romulus yield"))
        #expect(actions.last == .end(.failOver(cause: "no byte from the primary for 1000 ms")))
    }

    @Test func aSignalDecidesNothingWhileSomebodyElseDecides() {
        let session = framedSession(arbiter: .lease)
        _ = epoch(1, session, at: 3)
        _ = session.handle(.linkEnded, now: .milliseconds(5))
        let actions = session.handle(.stopRequested(signalName: "SIGTERM"), now: .milliseconds(6))
        guard actions.count == 1, case .log(.warning(let text))? = actions.first else {
            Issue.record("\(actions)")
            return
        }
        #expect(text.contains("SIGTERM") && text.contains("romulus yield"))
        #expect(session.timePassed(now: .milliseconds(1001)).last == .askArbiter)
    }

    @Test func nothingHappensAfterTheEnd() {
        let session = framedSession()
        _ = session.handle(.linkEnded, now: .milliseconds(3))
        #expect(session.handle(.announced(Announcement()), now: .milliseconds(4)) == [])
        #expect(session.timePassed(now: .milliseconds(90_000)) == [])
        #expect(session.deadline == nil)
    }
}
