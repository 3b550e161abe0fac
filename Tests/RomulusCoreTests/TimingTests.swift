import Testing

@testable import RomulusCore

@Suite struct TimingTests {
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
