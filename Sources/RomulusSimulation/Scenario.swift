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

    /// `xl` stands still at some time, and its guard freezes the guest in its place.
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
        // Shows in what is damaged last before a takeover.
        if sabotage == .dropTheChecksum {
            let epoch = UInt64.random(in: 1...5, using: &random)
            scenario.faults.append(Planned(.corruptedToBackup, .point(.midPageFrame, epoch: epoch)))
        }
        // Between the save's end and the farewell, which lasts some milliseconds.
        if sabotage == .relieveAtTheSavesEnd {
            scenario.faults.append(Planned(.adminStops, .at(400)))
            for epoch in UInt64(1)...40 { scenario.faults.append(Planned(.xlKilled, .point(.saveEnded, epoch: epoch))) }
        }
        return scenario
    }
}

/// In words: `5 lease linkCut@300 xlKilled@released:3`, with `hesitates` and `!sabotage` at the end where they are.
extension Scenario: LosslessStringConvertible {
    public var description: String {
        var words = ["\(seed)", "\(arbiter)"]
        var rest = faults[...]
        while let planned = rest.popFirst() {
            switch planned.moment {
            case .at(let milliseconds):
                words.append("\(planned.fault)@\(milliseconds)")
            case .point(let point, let first):
                var last = first
                while rest.first == Planned(planned.fault, .point(point, epoch: last + 1)) {
                    last += 1
                    rest.removeFirst()
                }
                words.append("\(planned.fault)@\(point):\(first)" + (last > first ? "-\(last)" : ""))
            }
        }
        if hesitates { words.append("hesitates") }
        if let sabotage { words.append("!\(sabotage)") }
        return words.joined(separator: " ")
    }

    public init?(_ description: String) {
        var words = description.split(separator: " ")[...]
        guard let seed = words.popFirst().flatMap({ UInt64($0) }),
            let arbiter = words.popFirst().flatMap({ ArbiterChoice(rawValue: String($0)) })
        else { return nil }
        self.init(seed: seed, arbiter: arbiter)
        for word in words {
            if word == "hesitates" {
                hesitates = true
            } else if word.first == "!" {
                guard let sabotage = Sabotage(rawValue: String(word.dropFirst())) else { return nil }
                self.sabotage = sabotage
            } else {
                guard let planned = Self.planned(word) else { return nil }
                faults += planned
            }
        }
    }

    private static func planned(_ word: Substring) -> [Planned]? {
        let parts = word.split(separator: "@")
        guard parts.count == 2, let fault = Fault(rawValue: String(parts[0])) else { return nil }
        if let milliseconds = Int(parts[1]) { return [Planned(fault, .at(milliseconds))] }
        let place = parts[1].split(separator: ":")
        guard place.count == 2, let point = CutPoint(rawValue: String(place[0])) else { return nil }
        let epochs = place[1].split(separator: "-").compactMap { UInt64($0) }
        guard let first = epochs.first, let last = epochs.last, first <= last else { return nil }
        return (first...last).map { Planned(fault, .point(point, epoch: $0)) }
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
