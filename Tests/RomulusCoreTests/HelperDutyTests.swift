import RomulusCore
import Testing

/// Whoever is left when `xl` dies or stands still has one thing to do, and does it before it lets go of the link.
@Suite struct HelperDutyTests {
    @Test func withoutAReplicaTheGuestGoesOnWithWhatWasHeld() {
        var duty = HelperDuty(domain: 7)
        #expect(
            duty.handle(.xlHasGone(isGuestFrozen: false)) == [
                .resumeGuest, .releaseOutput,
                .log(.error("xl remus was killed before there was a replica: the guest goes on here, unprotected")),
                .exit,
            ])
        #expect(!duty.isWatching)
    }

    @Test func withAReplicaTheCopyHereIsPausedBeforeTheHelperExits() {
        var duty = HelperDuty(domain: 7)
        #expect(duty.handle(.replicaBecomesPossible) == [])
        #expect(duty.handle(.xlHasGone(isGuestFrozen: false)) == [.pauseGuest])
        #expect(
            duty.handle(.guestPaused(true)) == [
                .log(
                    .error(
                        "xl remus was killed: the backup takes over; the copy here is paused: remove it with xl destroy 7 once"
                            + " the guest runs there")), .exit,
            ])
    }

    @Test func oneThatIsFrozenAlreadyIsNotPausedTwice() {
        var duty = HelperDuty(domain: 7)
        _ = duty.handle(.replicaBecomesPossible)
        let actions = duty.handle(.xlHasGone(isGuestFrozen: true))
        #expect(!actions.contains(.pauseGuest) && actions.last == .exit)
    }

    @Test func aCopyThatCannotBePausedIsTheAdminsToStop() {
        var duty = HelperDuty(domain: 7)
        _ = duty.handle(.replicaBecomesPossible)
        _ = duty.handle(.xlHasGone(isGuestFrozen: false))
        guard case .log(.error(let text))? = duty.handle(.guestPaused(false)).first else {
            Issue.record("nothing is said")
            return
        }
        #expect(text.contains("could not be paused: stop it"))
    }

    @Test func xlsWordThatNoReplicaWillRunCounts() {
        var duty = HelperDuty(domain: 7)
        _ = duty.handle(.replicaBecomesPossible)
        _ = duty.handle(.guestGoesOn)
        #expect(duty.handle(.xlHasGone(isGuestFrozen: false)).contains(.releaseOutput))
    }

    @Test func xlThatDiesAfterTheSaveOrTwiceIsNobodysDuty() {
        var relieved = HelperDuty(domain: 7)
        _ = relieved.handle(.saveIsOver)
        #expect(!relieved.isWatching && relieved.handle(.xlHasGone(isGuestFrozen: false)) == [])
        var orphaned = HelperDuty(domain: 7)
        _ = orphaned.handle(.xlHasGone(isGuestFrozen: false))
        _ = orphaned.handle(.saveIsOver)
        #expect(orphaned.handle(.xlHasGone(isGuestFrozen: false)) == [])
    }

    @Test func aLeaseThatNobodyRenewsFreezesTheGuestAndXlHearsOfIt() {
        var duty = HelperDuty(domain: 7)
        _ = duty.handle(.replicaBecomesPossible)
        #expect(duty.handle(.leaseWasTaken) == [.pauseGuest])
        #expect(
            duty.handle(.guestPaused(true)) == [
                .noteFreeze,
                .log(
                    .warning(
                        "xl remus does not run (stopped, or stuck), and the backup takes over: the copy here is frozen")
                ),
            ])
        #expect(duty.isWatching, "xl may go on, and may die yet")
    }

    @Test func whatCouldNotBeFrozenIsNotForXlToThaw() {
        var duty = HelperDuty(domain: 7)
        _ = duty.handle(.leaseWasTaken)
        #expect(!duty.handle(.guestPaused(false)).contains(.noteFreeze))
    }
}
