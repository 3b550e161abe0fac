import RomulusCore

/// Whom a side asks whether it may run the guest when the link is silent.
///
/// A side asks only while its own copy stands still, and obeys the first verdict. No answer (an agent that fails, a third
/// host that is not reached) is not a verdict: it is asked again until there is one, or the admin has spoken.
public protocol Arbiter: Sendable {
    /// Before the guest is touched: whether this arbiter could answer at all.
    func prepare(_ side: Side) throws(ArbiterError)
    /// Blocks until the verdict; nil once `isCancelled`. `note` hears why there is none yet, once per reason.
    ///
    /// - Parameter isWithdrawn: what has been begun is finished, and what came of it counts; nil then.
    func decide(
        _ side: Side, note: (String) -> Void, isWithdrawn: () -> Bool, isCancelled: () -> Bool
    ) -> ArbiterVerdict?
    /// Where there was no verdict the admin has said whose the guest is: one attempt to have the other side hear it too.
    func settle(for winner: Side) -> Settlement
    /// Just before the copy that was granted runs: why it must not, because it was decided otherwise meanwhile.
    func objection(to side: Side) -> String?
    /// Of a copy that was granted: whether it runs now, or cannot. Where the arbiter keeps it, the other side keeps its copy
    /// until then.
    ///
    /// - Parameter insists: until it is told.
    func report(runs: Bool, by side: Side, insists: Bool)
    /// Until what `settle` could not tell is told.
    func tellRest()
    /// For a run whose name is known only now.
    func of(run: UInt64) -> Arbiter
    /// The primary's: its run is over without a verdict, and the guest is the primary's, or the backup's to take.
    func end(for side: Side)
    /// What an admin runs before trusting it: changes nothing, and turns nobody off.
    func test() -> [CheckLine]
}

/// What became of the admin's word.
public enum Settlement: Equatable, Sendable {
    /// The other side hears of it when it asks.
    case settled
    /// It had been decided, for the other winner.
    case contradicted(String)
    /// A later run has begun: whose the guest is, is no longer this run's to say.
    case superseded(String)
    /// The other side does not know: what it may do.
    case untold(String)
}

extension Arbiter {
    public func of(run: UInt64) -> Arbiter { self }
    public func tellRest() {}
    public func objection(to side: Side) -> String? { nil }
    public func report(runs: Bool, by side: Side, insists: Bool = true) {}

    public func decide(_ side: Side, note: (String) -> Void, isCancelled: () -> Bool) -> ArbiterVerdict? {
        decide(side, note: note, isWithdrawn: { false }, isCancelled: isCancelled)
    }

    /// For the desk of that side.
    ///
    /// - Parameter log: hears what the admin has to do on the other host.
    public func settle(_ word: AdminWord, by side: Side, guest: String, _ log: Log) -> ArbiterDesk.Answer {
        let other: Side = side == .primary ? .backup : .primary
        switch settle(for: word == .resume ? side : other) {
        case .settled: return .word(word, isTold: true)
        case .contradicted(let why): return .verdict(word == .resume ? .refused(why) : .granted(why))
        case .superseded(let why): return .verdict(.refused(why))
        case .untold(let danger):
            let opposite = word == .resume ? "yield" : "resume"
            log.warning("\(danger): say romulus \(opposite) \(guest) on the other host too, as soon as it is reached")
            return .word(word, isTold: false)
        }
    }
}

public struct ArbiterError: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}

/// The arbiter that romulus.conf names, or nil for `none`. Asks nobody yet, but may look for the peer's address.
///
/// - Parameters:
///   - guestUUID: as xl writes it.
///   - run: the run's name, the same on both hosts.
///   - peer: the other host of the run.
///   - plugins: among which one is the arbiter if the file says so.
public func makeArbiter(
    _ configuration: Configuration, guestUUID: String, hostName: String, run: UInt64, peer: RunPeer, plugins: PluginSet,
    log: Log
) throws(ArbiterError) -> Arbiter? {
    switch configuration.arbiter {
    case .none:
        nil
    case .fence:
        try FenceArbiter.made(configuration, peer)
    case .lease:
        LeaseArbiter(
            etcd: Etcd(
                endpoints: configuration.leaseEndpoints, options: configuration.leaseOptions,
                timeoutMilliseconds: configuration.leaseTimeoutMilliseconds),
            key: "romulus/\(guestUUID)", run: String(run, radix: 16), host: hostName,
            ttlSeconds: configuration.leaseTTLSeconds,
            log: log)
    case .plugin:
        PluginArbiter(plugins, guestUUID: guestUUID, run: run)
    }
}

/// Tells a reason once, and again when it has changed.
struct Reasons {
    private var last: String?

    mutating func tell(_ reason: String, _ note: (String) -> Void) {
        if reason != last { note(reason) }
        last = reason
    }
}
