import Glibc
import RomulusCore

/// Grants when a fence agent has confirmed that the run's peer is off.
struct FenceArbiter: Arbiter {
    let agent: FenceAgent
    let target: FenceTarget
    /// How long the host that goes second waits.
    let delayMilliseconds: Int
    var turn: FenceTurn

    /// Between two calls of the agent, and two looks at what another process of this host has heard from it.
    private static let betweenCalls = 1000, betweenLooks = 100  // ms
    /// Longer than two calls of another process: it stands still.
    private var longestTurn: Int64 { .nanoseconds(milliseconds: 2 * agent.timeoutMilliseconds + 5000) }

    /// - Parameter target: with the agent's options for the peer.
    init(_ configuration: Configuration, _ target: FenceTarget, directory: String = RunLock.directory) {
        self.target = target
        agent = FenceAgent(
            name: configuration.fenceAgent ?? "", options: target.options,
            timeoutMilliseconds: configuration.fenceTimeoutMilliseconds)
        delayMilliseconds = target.order == .first ? 0 : configuration.fenceDelay
        turn = FenceTurn(peer: target.peer, directory: directory)
    }

    func prepare(_ side: Side) throws(ArbiterError) {
        guard agent.program != nil else { throw ArbiterError(agent.isMissing) }
    }

    func decide(
        _ side: Side, note: (String) -> Void, isWithdrawn: () -> Bool, isCancelled: () -> Bool
    ) -> ArbiterVerdict? {
        func isOver() -> Bool { isWithdrawn() || isCancelled() }
        let askedAt = MonotonicTime.now
        // The first may have been as far from the switch as this host: its time begins when the switch is reached.
        var reachedAt: MonotonicTime?
        var triedAt = askedAt
        var reasons = Reasons()
        if delayMilliseconds > 0 {
            note(
                "in \(delayMilliseconds) ms this host turns the other one off, unless that is off before: it goes second, so"
                    + " that they do not turn each other off")
        }
        while !isOver() {
            if turn.wasOff(since: askedAt) { return .granted("\(agent) has turned the other host off") }
            guard let held = turn.take() ?? (MonotonicTime.now - triedAt > longestTurn ? turn.insist() : nil) else {
                pause(milliseconds: Self.betweenLooks, isOver)
                continue
            }
            let actsAt =
                delayMilliseconds == 0 ? askedAt : reachedAt.map { $0 + .nanoseconds(milliseconds: delayMilliseconds) }
            let answer = withExtendedLifetime(held) {
                ask(askedAt, acts: actsAt.map { MonotonicTime.now >= $0 } ?? false, isCancelled)
            }
            triedAt = .now
            switch answer {
            case .off(let why): return .granted(why)
            case .on: reachedAt = reachedAt ?? .now
            case .unknown: reachedAt = nil
            }
            if isCancelled() { return nil }
            if let why = answer.complaint {
                reasons.tell("\(agent) has not turned the other host off (\(why)); trying again", note)
            }
            let left = reachedAt.map { ($0 + .nanoseconds(milliseconds: delayMilliseconds) - .now).inMilliseconds } ?? 0
            pause(milliseconds: left > 0 ? min(left, Self.betweenCalls) : Self.betweenCalls, isOver)
        }
        return nil
    }

    private enum Answer {
        case off(String)
        /// Nil where it was not to be turned off yet.
        case on(String?)
        case unknown(String)

        var complaint: String? {
            switch self {
            case .off: nil
            case .on(let why): why
            case .unknown(let why): why
            }
        }
    }

    /// A host that is off already needs no waiting for: only `status` is proof, and it asks for no more than that before.
    private func ask(_ askedAt: MonotonicTime, acts: Bool, _ isCancelled: () -> Bool) -> Answer {
        if turn.wasOff(since: askedAt) { return .off("\(agent) has turned the other host off") }
        let off = acts ? agent.run(.off, isCancelled: isCancelled) : nil
        let status = agent.run(.status, isCancelled: isCancelled)
        switch status.status {
        case FenceAgent.isOff:
            turn.noteOff()
            return .off("\(agent) \(off == nil ? "says that the other host is off" : "has turned the other host off")")
        case FenceAgent.isOn:
            return .on(off.map { $0.status == 0 ? "it says that the other host is still on" : $0.complaint })
        default:
            return .unknown(off.map { $0.status == 0 ? status.complaint : $0.complaint } ?? status.complaint)
        }
    }

    func end(for side: Side) {}

    func settle(for winner: Side) -> Settlement { .untold("the other host's agent may still turn this one off") }

    func test() -> [CheckLine] { agent.test() }
}

extension FenceArbiter {
    /// Why there is none for this peer is known before it is asked anything.
    static func made(_ configuration: Configuration, _ peer: RunPeer) throws(ArbiterError) -> FenceArbiter {
        let target = try configuration.fenceTarget(of: peer)
        if configuration.fenceOrder == nil { try FenceTurn(peer: target.peer).keep(target.order) }
        if configuration.fencePeers.isEmpty, let address = peer.connection?.peer { BoundPeer().bind(address) }
        return FenceArbiter(configuration, target)
    }

    /// Every agent that the file names, whoever the peer.
    static func test(_ configuration: Configuration) -> [CheckLine] {
        func agent(_ options: [String]) -> FenceAgent {
            FenceAgent(
                name: configuration.fenceAgent ?? "", options: options,
                timeoutMilliseconds: configuration.fenceTimeoutMilliseconds)
        }
        guard !configuration.fencePeers.isEmpty else { return agent(configuration.fenceOptions).test() }
        return configuration.fencePeers.flatMap { agent($0.options).test(host: $0.host) }
    }
}

/// Waits that long, or until there is no point any more.
func pause(milliseconds: Int, _ isCancelled: () -> Bool) {
    let end = MonotonicTime.now + .nanoseconds(milliseconds: milliseconds)
    while MonotonicTime.now < end, !isCancelled() { usleep(20_000) }
}
