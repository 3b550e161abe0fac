import Testing

@testable import RomulusCore

@Suite struct EpochWatchTests {
    private func watch() -> Held<EpochWatch> {
        let watch = Held(
            EpochWatch(
                noticeNanoseconds: .nanoseconds(milliseconds: 1000),
                limitNanoseconds: .nanoseconds(milliseconds: 3000)))
        watch.value.began(at: .milliseconds(0))
        return watch
    }

    private func isSaid(_ advice: EpochWatch.Advice) -> Bool { if case .say = advice { true } else { false } }

    @Test(arguments: [GuestStanding.runs, .suspended])
    func aCheckpointThatStandsStillIsToldOfOnceAndThenEnded(guest: GuestStanding) {
        let watch = watch()
        #expect(watch.value.look(guest, at: .milliseconds(999)) == .wait)
        #expect(isSaid(watch.value.look(guest, at: .milliseconds(1000))))
        #expect(watch.value.look(guest, at: .milliseconds(2999)) == .wait)
        guard case .end(let why) = watch.value.look(guest, at: .milliseconds(3000)) else {
            Issue.record("it goes on")
            return
        }
        #expect(why.contains("3 s"))
    }

    @Test func whatGetsOnIsLeftAlone() {
        let watch = watch()
        for time in stride(from: 900, through: 90_000, by: 900) {
            #expect(watch.value.look(.suspended, at: .milliseconds(time)) == .wait)
            watch.value.moved(at: .milliseconds(time))
        }
        watch.value.ended()
        #expect(!watch.value.isDue(at: .milliseconds(200_000)))
        watch.value.moved(at: .milliseconds(200_000))
        #expect(watch.value.look(.suspended, at: .milliseconds(300_000)) == .wait, "no checkpoint is under way")
    }

    @Test func aPausedGuestMayTakeItsTime() {
        let watch = watch()
        #expect(isSaid(watch.value.look(.paused, at: .milliseconds(1000))))
        for time in stride(from: 1100, through: 90_000, by: 100) {
            #expect(watch.value.look(.paused, at: .milliseconds(time)) == .wait)
        }
        // From here on it could follow.
        #expect(watch.value.look(.runs, at: .milliseconds(92_000)) == .wait)
        guard case .end = watch.value.look(.runs, at: .milliseconds(93_000)) else {
            Issue.record("it goes on")
            return
        }
    }

    /// Its output is held as long, and whether it runs or is paused changes nothing.
    @Test(arguments: [GuestStanding.runs, .paused]) func aCheckpointMayAlsoStandStillWhenTheGuestRunsAgain(
        guest: GuestStanding
    ) {
        let watch = watch()
        watch.value.saved(at: .milliseconds(2000))
        #expect(isSaid(watch.value.look(guest, at: .milliseconds(3000))))
        guard case .end(let why) = watch.value.look(guest, at: .milliseconds(5000)) else {
            Issue.record("it goes on")
            return
        }
        #expect(why.contains("stood still"))
    }

    @Test func theNextCheckpointIsToldOfAnew() {
        let watch = watch()
        #expect(isSaid(watch.value.look(.runs, at: .milliseconds(1000))))
        watch.value.ended()
        watch.value.began(at: .milliseconds(2000))
        #expect(isSaid(watch.value.look(.runs, at: .milliseconds(3000))))
    }
}
