import RomulusCore
import Testing

/// Whoever is left when `xl` dies or stands still has one thing to do, and does it before it lets go of the link.
@Suite struct GuardDutyTests {
    @Test func withoutAReplicaTheGuestGoesOnWithWhatWasHeld() {
        var duty = GuardDuty(domain: 7)
        #expect(
            duty.handle(.xlHasGone(.none, isGuestFrozen: false)) == [
                .resumeGuest, .releaseOutput,
                .log(.error("xl remus was killed before there was a replica: the guest goes on here, unprotected")),
                .exit,
            ])
        #expect(!duty.isWatching)
    }

    @Test func withAReplicaTheCopyHereIsPausedBeforeTheGuardExits() {
        var duty = GuardDuty(domain: 7)
        #expect(duty.handle(.xlHasGone(.possible, isGuestFrozen: false)) == [.pauseGuest])
        #expect(
            duty.handle(.guestPaused(true)) == [
                .log(
                    .error(
                        "xl remus was killed: the backup takes over; the copy here is paused: remove it with xl destroy 7 once"
                            + " the guest runs there")), .exit,
            ])
    }

    @Test func oneThatIsFrozenAlreadyIsNotPausedTwice() {
        var duty = GuardDuty(domain: 7)
        let actions = duty.handle(.xlHasGone(.possible, isGuestFrozen: true))
        #expect(!actions.contains(.pauseGuest) && actions.last == .exit)
    }

    @Test func aCopyThatCannotBePausedIsTheAdminsToStop() {
        var duty = GuardDuty(domain: 7)
        _ = duty.handle(.xlHasGone(.possible, isGuestFrozen: false))
        guard case .log(.error(let text))? = duty.handle(.guestPaused(false)).first else {
            Issue.record("nothing is said")
            return
        }
        #expect(text.contains("could not be paused: stop it"))
    }

    @Test func xlsWordThatNoReplicaWillRunCounts() {
        var duty = GuardDuty(domain: 7)
        let actions = duty.handle(.xlHasGone(.ruledOut, isGuestFrozen: false))
        #expect(actions.first == .resumeGuest && actions.contains(.releaseOutput))
        #expect(
            actions.contains(
                .log(
                    .error(
                        "xl remus was killed when no replica could run any more: the guest goes on here, unprotected")))
        )
    }

    @Test func xlThatGoesAfterTheRunOrTwiceIsNobodysDuty() {
        var relieved = GuardDuty(domain: 7)
        #expect(relieved.handle(.runIsOver) == [.exit])
        #expect(!relieved.isWatching && relieved.handle(.xlHasGone(.possible, isGuestFrozen: false)) == [])
        #expect(relieved.handle(.leaseWasTaken) == [])
        var orphaned = GuardDuty(domain: 7)
        _ = orphaned.handle(.xlHasGone(.none, isGuestFrozen: false))
        #expect(orphaned.handle(.runIsOver) == [])
        #expect(orphaned.handle(.xlHasGone(.possible, isGuestFrozen: false)) == [])
    }

    @Test func aLeaseThatNobodyRenewsFreezesTheGuestAndXlHearsOfIt() {
        var duty = GuardDuty(domain: 7)
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
        var duty = GuardDuty(domain: 7)
        _ = duty.handle(.leaseWasTaken)
        #expect(!duty.handle(.guestPaused(false)).contains(.noteFreeze))
    }
}
