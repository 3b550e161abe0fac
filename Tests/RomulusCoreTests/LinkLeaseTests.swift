import Testing

@testable import RomulusCore

@Suite struct LinkLeaseTests {
    private static let times = LinkTimes(detectTimeoutMilliseconds: 800)

    @Test func itIsRenewedByTheNewestFrameThatWasHeardAndOnlyForward() {
        var lease = LinkLease(times: Self.times, now: .milliseconds(0))
        var answers: [Bool] = []
        for time in [10, 20, 30] { lease.frameComposed(bytes: 100, isData: true, at: .milliseconds(time)) }
        answers.append(lease.heard(frames: 2, at: .milliseconds(35)))
        #expect(lease.deadline == .milliseconds(620))
        #expect(lease.unheardBytes == 100)
        answers.append(lease.heard(frames: 2, at: .milliseconds(40)))
        #expect(lease.deadline == .milliseconds(620))
        #expect(answers == [true, true])
        let backwards = lease.heard(frames: 1, at: .milliseconds(41))
        let ahead = lease.heard(frames: 4, at: .milliseconds(41))
        #expect(!backwards && !ahead)
    }

    /// The two deadlines, both at the edge of the stated bound: the primary's clock slow, the backup's fast.
    @Test func atTheBoundOfTheClocksThePrimaryStandsStillFirst() {
        for timeout in [100, 1000, 60_000] {
            let times = LinkTimes(detectTimeoutMilliseconds: timeout)
            let lease = LinkLease(times: times, now: .milliseconds(0))
            let primaryStops = Double(lease.lengthNanoseconds) / (1 - 0.125)
            let backupBegins = Double(times.backupDeadlineNanoseconds) / (1 + 0.125)
            #expect(primaryStops < backupBegins)
        }
    }

    @Test func theWindowShrinksWhenSignsOfLifeQueueAndGrowsWhenItWasFullAndQuick() {
        var lease = LinkLease(times: Self.times, now: .milliseconds(0))
        let first = lease.window.limitBytes
        lease.frameComposed(bytes: Int(first), isData: true, at: .milliseconds(0))
        #expect(!lease.hasRoom)
        _ = lease.heard(frames: 1, at: .milliseconds(10))
        #expect(lease.window.limitBytes == first * 2 && lease.hasRoom)
        var now = 100
        for frame in UInt64(2)...20 {
            lease.frameComposed(bytes: 1000, isData: true, at: .milliseconds(now))
            now += 300
            _ = lease.heard(frames: frame, at: .milliseconds(now))
        }
        #expect(lease.window.limitBytes == SendWindow.leastBytes)
    }

    @Test func manyFramesUnheardShortenTheLeaseAndNeverLengthenIt() {
        var lease = LinkLease(times: Self.times, now: .milliseconds(0))
        for count in 0..<10_000 { lease.frameComposed(bytes: 1, isData: true, at: .milliseconds(count)) }
        let isPlausible = lease.heard(frames: 9_000, at: .milliseconds(10_000))
        #expect(isPlausible && lease.deadline < .milliseconds(9_000 + 600))
        let isAll = lease.heard(frames: 10_000, at: .milliseconds(10_001))
        #expect(isAll && lease.isDataHeard && lease.unheardBytes == 0)
    }
}
