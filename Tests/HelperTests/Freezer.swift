import RomulusCore
import RomulusHost

/// What a relay does to its guest, done and counted.
final class Freezer: Sendable {
    private let domain: SimulatedDomain
    private let counts = Shared((freezes: 0, thaws: 0, givenUp: 0))
    private let isAble: Bool

    /// - Parameter isAble: whether the hypervisor freezes it when it is asked to.
    init(of domain: SimulatedDomain, isAble: Bool = true) {
        self.domain = domain
        self.isAble = isAble
    }

    var freezes: Int { counts.value.freezes }
    var thaws: Int { counts.value.thaws }
    var isGivenUp: Bool { counts.value.givenUp > 0 }
    var isFrozen: Bool { freezes > thaws }

    func port(
        leave: @escaping @Sendable () -> PrimarySession.GuestLeave? = { nil },
        isServed: @escaping @Sendable () -> Bool = { true }, isGuarded: @escaping @Sendable () -> Bool = { true }
    ) -> GuestPort {
        var port = GuestPort(
            leave: { _ in leave() },
            standing: { [domain] in domain.isSuspended ? .suspended : domain.isRunning ? .runs : .paused },
            isServed: isServed,
            freeze: { [domain, counts, isAble] in
                counts.change { $0.freezes += 1 }
                return isAble && domain.pause()
            },
            thaw: { [domain, counts] in
                counts.change { $0.thaws += 1 }
                return domain.unpause()
            },
            giveUp: { [counts] _ in counts.change { $0.givenUp += 1 } })
        port.isGuarded = isGuarded
        return port
    }
}

/// A network buffer that keeps what it was told, in order.
final class RecordingOutput: OutputBuffer, Sendable {
    enum Step: Equatable, Sendable {
        case hold
        case release
        case open
        case drop
    }

    private let recorded = Shared<[Step]>([])
    private let failure = Shared<Step?>(nil)

    var steps: [Step] { recorded.value }

    struct Failure: Error {}

    /// From now on this step fails.
    func fail(_ step: Step) { failure.set(step) }

    private func take(_ step: Step) throws {
        recorded.change { $0.append(step) }
        if failure.value == step { throw Failure() }
    }

    var changeDescriptor: Int32 { -1 }
    func linksChanged() {}
    func linksAreQuiet() {}
    func holdEpoch() throws { try take(.hold) }
    func releaseEpoch() throws { try take(.release) }
    func releaseEverything() { recorded.change { $0.append(.open) } }
    func dropEverything() { recorded.change { $0.append(.drop) } }
    var held: HeldOutput { HeldOutput() }
}
