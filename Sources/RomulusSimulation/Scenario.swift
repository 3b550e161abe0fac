import RomulusCore

/// One run, wholly decided by its values: the same scenario gives the same run.
public struct Scenario: Sendable {
    public var seed: UInt64
    public var arbiter: ArbiterChoice
    public var faults: [Planned]
    public var sabotage: Sabotage?
    /// Somebody asks the backup for patience before it suspects a silent primary.
    public var hesitates = false

    public enum Moment: Equatable, Sendable {
        /// Milliseconds of true time.
        case at(Int)
        /// When that point of that epoch is reached.
        case point(CutPoint, epoch: UInt64)
    }

    public struct Planned: Equatable, Sendable {
        public var fault: Fault
        public var moment: Moment

        public init(_ fault: Fault, _ moment: Moment) {
            self.fault = fault
            self.moment = moment
        }
    }

    /// `xl` stands still at some time, and its helper freezes the guest in its place.
    var isGuarded: Bool { faults.contains { $0.fault == .xlStopped } }

    public init(seed: UInt64, arbiter: ArbiterChoice, faults: [Planned] = [], sabotage: Sabotage? = nil) {
        self.seed = seed
        self.arbiter = arbiter
        self.faults = faults
        self.sabotage = sabotage
    }

    /// Up to three faults at random moments, any arbiter.
    public static func random(seed: UInt64, sabotage: Sabotage? = nil) -> Scenario {
        var random = Seeded(seed ^ 0x5EED)
        var scenario = Scenario(
            seed: seed, arbiter: ArbiterChoice.allCases.randomElement(using: &random)!, sabotage: sabotage)
        for _ in 0..<[0, 1, 1, 1, 2, 2, 3].randomElement(using: &random)! {
            let fault = Fault.allCases.randomElement(using: &random)!
            let moment: Moment =
                random.chance(2)
                ? .at(Int.random(in: 1...1500, using: &random))
                : .point(
                    CutPoint.allCases.randomElement(using: &random)!, epoch: UInt64.random(in: 1...5, using: &random))
            scenario.faults.append(Planned(fault, moment))
        }
        // Shows where the side that was granted cannot run, and nowhere else.
        if sabotage == .refuseBeforeTheOtherRuns { scenario.faults.append(Planned(.restoreFailsAfterTheGrant, .at(1))) }
        return scenario
    }
}

extension Scenario: CustomStringConvertible {
    public var description: String {
        let faults = faults.map { "\($0.fault) \($0.moment)" }.joined(separator: ", ")
        return "seed \(seed), arbiter \(arbiter), [\(faults)]" + (sabotage.map { ", sabotage \($0)" } ?? "")
    }
}

/// What a run came to.
public struct Verdict: Sendable {
    /// Promises that were broken; each with the true time in milliseconds.
    public var violations: [String]
    public var committedEpochs: UInt64
    public var faultsThatHappened: [Fault]
    public var trace: [String]
}
