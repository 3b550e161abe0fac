import Foundation
import RomulusCore
import RomulusSimulation
import Testing

/// The control law of docs/scheduling.md on guests whose work changes.
@Suite struct ScheduleTests {
    private let budgets = ScheduleBudgets(
        floorNanoseconds: 10_000_000, ceilingNanoseconds: 1_000_000_000, pauseShare: 0.2,
        outputDelayNanoseconds: 100_000_000, bytesPerSecond: 50e6)

    private func run(_ load: ScheduleLoad, _ budgets: ScheduleBudgets? = nil, seconds: Double = 60)
        -> [ScheduleLoad.Sample]
    {
        Array(load.run(.adaptive(budgets ?? self.budgets), seconds: seconds).dropFirst())
    }

    /// How often the values turn round by more than this part of themselves.
    private func turns(_ values: [Double], by part: Double = 0.05) -> Int {
        var (low, high) = (values[0], values[0])
        var turns = 0
        var direction = 0
        for value in values {
            if direction >= 0 { high = max(high, value) }
            if direction <= 0 { low = min(low, value) }
            if direction < 1, value > low * (1 + part) {
                turns += direction == -1 ? 1 : 0
                (direction, high) = (1, value)
            } else if direction > -1, value < high * (1 - part) {
                turns += direction == 1 ? 1 : 0
                (direction, low) = (-1, value)
            }
        }
        return turns
    }

    @Test func turnsAreCounted() {
        #expect(turns([1, 1.01, 1, 0.99, 1]) == 0)
        #expect(turns([1, 2, 3, 4]) == 0)
        #expect(turns([1, 2, 1, 2, 1]) == 3)
    }

    @Test func anIdleGuestIsLeftAloneUpToTheCeiling() {
        let samples = run(.idle)
        #expect(samples.filter { $0.period > 0.999 }.count >= samples.count - 4)
        #expect(samples.count < 66)
    }

    @Test func aPacketOfAQuietGuestDoesNotWaitForTheCeiling() {
        let load = ScheduleLoad { second in
            .init(pagesPerSecond: 500, outputInterval: (20..<20.3).contains(second) ? 0.29 : nil)
        }
        let waits = run(load).compactMap(\.waited)
        #expect(waits.count >= 1 && waits.allSatisfy { $0 < 0.03 })
    }

    @Test func aStepLeadsToAnotherPeriodWithoutSwinging() {
        let samples = run(.step)
        let calm = samples.filter { (4..<10).contains($0.start) }
        let loaded = samples.filter { (14..<30).contains($0.start) }
        let after = samples.filter { $0.start > 34 }
        for part in [calm, loaded, after] {
            #expect(part.count > 10 && turns(part.map(\.period), by: 0.1) == 0)
        }
        #expect(loaded.last!.period > 1.2 * calm.last!.period)
        #expect(abs(after.last!.period / calm.last!.period - 1) < 0.05)
    }

    @Test func aBurstIsFollowedAndForgotten() {
        let samples = run(.burst)
        // Each burst and its end turn the period once, and it comes back to the ceiling between them.
        #expect(turns(samples.map(\.period), by: 0.3) <= 2 * 6 + 2)
        for burst in 0..<5 {
            let quiet = samples.filter { (Double(burst) * 10 + 5..<Double(burst) * 10 + 10).contains($0.start) }
            #expect(quiet.allSatisfy { $0.period > 0.99 })
        }
    }

    @Test func aSawtoothIsFollowedWithoutSwingsOfItsOwn() {
        let samples = run(.sawtooth, seconds: 64)
        #expect(turns(samples.map(\.period)) <= 2 * 8)
    }

    @Test(arguments: [("step", ScheduleLoad.step), ("burst", .burst), ("sawtooth", .sawtooth), ("idle", .idle)])
    func everyBudgetIsKept(_: String, load: ScheduleLoad) {
        let samples = run(load)
        assertBudgets(samples)
        // What an epoch takes is known when it is over: where the work has just grown, output may wait somewhat longer.
        let waits = samples.compactMap(\.waited)
        #expect(waits.filter { $0 > 0.1 }.count <= waits.count / 50)
        #expect(waits.allSatisfy { $0 <= 0.125 })
    }

    /// What a guest of the lab wrote (scenario 64: quiet, talking, talking and busy, quiet), whatever it says: once nothing, once
    /// all the time. Its pauses are those of an emulated host, so the budgets are wider.
    @Test(arguments: [nil, 0.02]) func aRecordedGuestIsFollowedWithinItsBudgets(outputInterval: Double?) throws {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("../Benchmarks/traces/talking.epochs.csv").path
        let text = try String(contentsOfFile: path, encoding: .utf8)
        let load = try #require(ScheduleLoad(epochLog: text, outputInterval: outputInterval))
        let wide = ScheduleBudgets(
            floorNanoseconds: 10_000_000, ceilingNanoseconds: 2_000_000_000, pauseShare: 0.6)
        let samples = run(load, wide)
        let paused = samples.reduce(0) { $0 + $1.pause }
        #expect(paused <= 0.6 * (60 + 2))
        let periods = samples.dropFirst(8).map(\.period)
        if outputInterval == nil {
            #expect(periods.allSatisfy { $0 > 1.999 })
        } else {
            // The recorded guest's own work changes four times.
            #expect(periods.allSatisfy { $0 < 1.9 } && turns(Array(periods), by: 0.4) <= 8)
        }
    }

    @Test(arguments: ["", "epoch,pages\n1,x", "epoch,pages\n1,2\n2,3\n3,4\n4,5\n5,6\n6,7"])
    func whatIsNoEpochLogIsNoLoad(text: String) {
        #expect(ScheduleLoad(epochLog: text, outputInterval: nil) == nil)
    }

    /// Over the whole run, and over every two seconds of it: what a ceiling's time has saved may be spent at once.
    private func assertBudgets(_ samples: [ScheduleLoad.Sample], _ window: Double = 2) {
        #expect(samples.allSatisfy { (0.0099...1.0001).contains($0.period) })
        for (index, first) in samples.enumerated() {
            let inside = samples[index...].prefix { $0.start < first.start + window }
            let paused = inside.dropLast().reduce(0) { $0 + $1.pause }
            let bytes = inside.dropLast().reduce(0) { $0 + $1.bytes }
            let time = inside.last!.start - first.start + 1
            #expect(paused <= 0.2 * time + 1e-6)
            #expect(bytes <= 50e6 * time + 1)
        }
    }

    @Test(arguments: 0..<40) func budgetsAreKeptUnderAnyWork(seed: UInt64) {
        var random = Seeded(seed)
        let rates = (0..<30).map { _ in Double.random(in: 100...40_000, using: &random) }
        let intervals = (0..<30).map { _ in
            Bool.random(using: &random) ? nil : Double.random(in: 0.003...0.5, using: &random)
        }
        let load = ScheduleLoad { second in
            .init(pagesPerSecond: rates[Int(second) % 30], outputInterval: intervals[Int(second / 2) % 30])
        }
        assertBudgets(run(load, seconds: 30))
    }

    @Test func whatCannotBeKeptIsNamed() {
        func unmet(pause: Double, bytes: UInt64, output: Int64?) -> ScheduleBudgets.Kind? {
            var scheduler = CheckpointScheduler(.adaptive(budgets))
            scheduler.epochCommitted(
                EpochCost(
                    requested: .milliseconds(0), pauseNanoseconds: Int64(pause * 1e9),
                    acknowledgeNanoseconds: 1_000_000,
                    linkBytes: bytes), at: .milliseconds(300))
            if let output { _ = scheduler.nextStart(outputSince: MonotonicTime(nanoseconds: output)) }
            return scheduler.unmetBudget
        }
        #expect(unmet(pause: 0.01, bytes: 1000, output: 20_000_000) == nil)
        #expect(unmet(pause: 0.25, bytes: 1000, output: nil) == .pause)
        #expect(unmet(pause: 0.01, bytes: 60_000_000, output: nil) == .bandwidth)
        #expect(unmet(pause: 0.1, bytes: 1000, output: 110_000_000) == .output)
    }

    @Test func aFixedPeriodRunsFromSuspendToSuspend() {
        var scheduler = CheckpointScheduler(.fixed(periodNanoseconds: .nanoseconds(milliseconds: 200)))
        scheduler.epochCommitted(cost(at: 1000), at: .milliseconds(1150))
        let start = scheduler.nextStart(outputSince: .milliseconds(1100))
        #expect(start == .milliseconds(1200))
        #expect(scheduler.overrunCount == 0)
        scheduler.epochCommitted(cost(at: 1200), at: .milliseconds(1401))
        #expect(scheduler.overrunCount == 1)
    }

    private func cost(at milliseconds: Int) -> EpochCost {
        EpochCost(
            requested: .milliseconds(milliseconds), pauseNanoseconds: 1, acknowledgeNanoseconds: 1, linkBytes: 1)
    }
}

extension MonotonicTime {
    fileprivate static func milliseconds(_ value: Int) -> MonotonicTime {
        MonotonicTime(nanoseconds: .nanoseconds(milliseconds: value))
    }
}
