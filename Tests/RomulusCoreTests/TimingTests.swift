import Testing

@testable import RomulusCore

@Suite struct TimingTests {
    @Test func thePeriodRunsFromSuspendToSuspend() {
        var due: MonotonicTime
        var scheduler = CheckpointScheduler(periodNanoseconds: .nanoseconds(milliseconds: 200))
        scheduler.epochBegan(at: .milliseconds(1000))
        due = scheduler.nextStart(committedAt: .milliseconds(1150))
        #expect(due == .milliseconds(1200))
        #expect(scheduler.overrunCount == 0)
    }

    @Test func anEpochLongerThanThePeriodBeginsTheNextAtOnceAndIsCounted() {
        var due: MonotonicTime
        var scheduler = CheckpointScheduler(periodNanoseconds: .nanoseconds(milliseconds: 50))
        scheduler.epochBegan(at: .milliseconds(0))
        due = scheduler.nextStart(committedAt: .milliseconds(51))
        #expect(due == .milliseconds(51))
        #expect(scheduler.overrunCount == 1)
        scheduler.epochBegan(at: .milliseconds(51))
        due = scheduler.nextStart(committedAt: .milliseconds(101))
        #expect(due == .milliseconds(101))
        #expect(scheduler.overrunCount == 1)
    }

    @Test(arguments: [100, 101, 250, 1000, 3_600_000]) func thePrimarysDeadlineIsTheEarlierOne(timeout: Int) {
        let times = LinkTimes(detectTimeoutMilliseconds: timeout)
        #expect(times.primaryDeadlineNanoseconds < times.backupDeadlineNanoseconds)
        #expect(times.heartbeatNanoseconds * 4 < times.primaryDeadlineNanoseconds)
    }

    @Test func messagesOfAKindPassOncePerInterval() {
        var limiter = MessageLimiter(intervalNanoseconds: .nanoseconds(milliseconds: 100))
        let passed = [0, 99, 100, 150, 200].map { limiter.passes(at: .milliseconds($0)) }
        #expect(passed == [true, false, true, false, true])
    }
}
