import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// Memory and time that run short.
    @Suite struct FlowTests {
        let folder: TemporaryFolder

        init() throws { folder = try TemporaryFolder() }

        @Test func stagingSmallerThanAnEpochMakesTheGuestWaitAndLosesNothing() throws {
            let guest = try ProtectedGuest(
                in: folder, .init(fault: .cut(after: 9_000_000), stagingBytes: 64 << 10, dirtyPages: 300))
            let ending = try guest.end()
            #expect(ending.primary.statistics.stagingFullCount > 0)
            #expect(ending.backup.lastEpoch.rawValue >= 3, "the run went on")
            try guest.expectFailover(ending, "small staging")
        }

        @Test func aRestoreSlowerThanTheLinkHoldsTheLinkUpAndLosesNothing() throws {
            let guest = try ProtectedGuest(
                in: folder, .init(epochLimitBytes: 2 << 20, restoreKibibytesPerMillisecond: 8))
            try guest.waitForCommits(4)
            guest.wire.stall()
            let ending = try guest.end(hangsUp: false)
            try guest.expectFailover(ending, "slow restore")
        }

        @Test func aFullLinkDoesNotKeepTheRunFromBeingStopped() throws {
            let guest = try ProtectedGuest(
                in: folder,
                .init(
                    fault: .jam(after: 0), place: .init(.data(number: 1, afterEpoch: 2), 500),
                    detectTimeoutMilliseconds: 2_000, stagingBytes: 64 << 10, dirtyPages: 600))
            try guest.waitUntilJammed()
            let begin = ContinuousClock.now
            guest.interrupt()
            let ending = try guest.end()
            #expect(ContinuousClock.now - begin < .seconds(15))
            #expect(ending.primary.end.cause == .stopRequested(signalName: "SIGINT"))
            #expect(ending.saved.result == -1, "\(ending.saved.story)")
            #expect(!ending.primary.wasFarewellHeard, "it is behind what the link does not take")
        }

        @Test func suspendRequestsKeepThePeriod() throws {
            let guest = try ProtectedGuest(in: folder, .init(periodMilliseconds: 120, trace: folder("trace")))
            try guest.waitForCommits(5)
            guest.interrupt()
            let ending = try guest.end()
            let rows = try String(contentsOfFile: folder("trace"), encoding: .utf8).split(separator: "\n").dropFirst()
            let requests = try rows.map { try #require(Int($0.split(separator: ",")[1])) }
            #expect(requests.count >= 5)
            // Whole microseconds; the first copy's end is not what a period is counted from.
            for (earlier, later) in zip(requests.dropFirst(), requests.dropFirst(2)) {
                #expect(later - earlier >= 119_999, "\(requests)")
            }
            #expect(ending.primary.statistics.pauseNanoseconds.count >= 5)
        }

        @Test func anEpochLongerThanThePeriodIsCountedAndTheNextBeginsAtOnce() throws {
            let guest = try ProtectedGuest(in: folder, .init(periodMilliseconds: 4, whileSuspended: { usleep(8000) }))
            try guest.waitForCommits(6)
            guest.interrupt()
            let ending = try guest.end()
            let statistics = ending.primary.statistics
            #expect(statistics.overrunCount >= 5 && statistics.overrunCount <= Int(statistics.epochCount))
            #expect(statistics.pauseNanoseconds.largest >= 8_000_000)
        }
    }
}
