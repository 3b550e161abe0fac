import CXen
import Glibc
import RomulusCore
import RomulusHost

/// What stands around one run on the primary, made before the guest is touched: its arbiter, the buffer of its network
/// output, and the socket where the admin speaks.
final class Protection {
    let guest: String
    /// This run's name, the same on both hosts.
    let run = UInt64.random(in: 1 ... .max)
    private let domain: Domain
    private let uuid: String
    private let log: Log
    private let arbiter: Arbiter?
    private let plugins: PluginSet
    private let output: OutputBuffer?
    private let shape: ShapeWatch
    /// Writes to xenstore for the relay's thread.
    private let scribe = try? Scribe(name: "romulus-store")

    init(
        _ domain: Domain, guest: String, _ facts: Domain.Facts, _ asked: libxl_domain_remus_info,
        _ configuration: Configuration, _ plugins: PluginSet, _ leftovers: Leftovers,
        hasBackChannel: Bool, _ log: Log
    ) throws(Refusal) {
        self.guest = guest
        self.domain = domain
        uuid = facts.uuid
        self.log = log
        self.plugins = plugins
        let isBuffered = libxl_defbool_is_default(asked.netbuf) || libxl_defbool_val(asked.netbuf)
        let isUnsafeAccepted = isTrue(asked.allow_unsafe)
        guard isBuffered || isUnsafeAccepted else {
            throw Refusal(
                "-n leaves the network output unbuffered, so that clients may see what a replica never did; -F accepts this"
            )
        }
        if domain.hasWritableDisks, !isUnsafeAccepted {
            log.warning(
                "disks are not replicated: what the guest wrote since its last checkpoint stays on them after a failover"
                    + " (-F silences this)")
        }
        if !GuestKeeper.keeps(domain.id) {
            log.warning(
                "no xl that minds checkpoints stays behind \(guest) (created before Romulus was active, or with -e): when the"
                    + " guest shuts down here, nobody does what its on_poweroff, on_reboot and on_crash say; xl destroy removes"
                    + " it then")
        }
        arbiter =
            hasBackChannel
            ? try Self.arbiter(configuration, uuid: facts.uuid, run: run, plugins, log)
            : nil
        if hasBackChannel, configuration.arbiter == .none { Self.warnOfMissingArbiter(guest, log) }
        leftovers.drop(log)
        do {
            output = isBuffered ? try Self.makeOutput(domain, asked, configuration, scribe, log) : nil
            shape = try Self.watchShape(domain)
        } catch {
            arbiter?.end(for: .primary)
            throw error as? Refusal ?? Refusal("the network output cannot be buffered: \(error)")
        }
    }

    func ports(_ configuration: Configuration, _ lock: RunLock) throws(SystemError) -> PrimaryRelay.Ports {
        let id = domain.id
        let trace: EpochTrace? =
            if let path = configuration.epochLogPath { try EpochTrace(path: path, guest: guest) } else { nil }
        let desk: ArbiterDesk? =
            if let arbiter { try ArbiterDesk(of: .primary, arbiter, guest: guest, log) } else { nil }
        return PrimaryRelay.Ports(
            guest: GuestControl(domainID: domain.id).port, shape: shape, output: output, arbiter: desk,
            admin: adminSocket(RunLock.name(uuid: uuid, .primary), log), trace: trace,
            metrics: try configuration.metricsFile(guest: guest, log),
            plugins: try EpochPlugins(plugins), noteReplica: { lock.note(replicaOf: $0 ? id : nil) })
    }

    /// Where no verdict has settled it, the guest is the backup's if the copy here was destroyed.
    ///
    /// - Parameter runs: a guest that goes on may be left suspended for good.
    func end(_ end: PrimarySession.End, runs: Bool) {
        shape.close()
        scribe?.drain(until: .now + .nanoseconds(milliseconds: 1000))
        arbiter?.tellRest()
        switch end.fate {
        case .goesOn(.ruledOut): arbiter?.report(runs: runs, by: .primary, insists: true)
        // What its host makes of it is its only life.
        case .hasLeft(.ruledOut): arbiter?.report(runs: true, by: .primary, insists: true)
        case .goesOn: arbiter?.end(for: .primary)
        case .yields: arbiter?.end(for: .backup)
        case .hasLeft:
            if case .guestLeft(.destroyed) = end.cause {
                arbiter?.end(for: .backup)
            } else {
                arbiter?.end(for: .primary)
            }
        }
    }

    private static func arbiter(
        _ configuration: Configuration, uuid: String, run: UInt64, _ plugins: PluginSet, _ log: Log
    ) throws(Refusal) -> Arbiter? {
        guard
            let arbiter = try makeArbiter(
                configuration, uuid: uuid, run: run, configuration.arbiter == .fence ? Transport.peer() : .nobody,
                plugins, log)
        else { return nil }
        try arbiter.prepared(.primary)
        return arbiter
    }

    private static func warnOfMissingArbiter(_ guest: String, _ log: Log) {
        log.warning(
            "no arbiter: when the link to the backup fails, \(guest) is frozen here and stays so until the backup says that"
                + " its replica is gone, or you do (romulus resume); set `arbiter' in /etc/xen/romulus.conf on both hosts to"
                + " have that decided for you")
    }

    private static func watchShape(_ domain: Domain) throws(SystemError) -> ShapeWatch {
        let reader = ShapeReader(domainID: domain.id)
        return try ShapeWatch { reader.shape() }
    }

    private static func makeOutput(
        _ domain: Domain, _ asked: libxl_domain_remus_info, _ configuration: Configuration, _ scribe: Scribe?,
        _ log: Log
    ) throws -> OutputBuffer {
        let buffer = try NetworkBuffer(
            domainID: domain.id, limitBytes: configuration.netbufLimitKiB << 10,
            store: NetbufRecord(domainID: domain.id, scribe: scribe).store,
            script: asked.netbufscript.map { String(cString: $0) },
            log: log)
        let elsewhere = domain.networkDevices.subtracting(buffer.deviceIDs)
        guard elsewhere.isEmpty else {
            throw Refusal(
                "no network device of this host belongs to the guest's vif \(elsewhere.sorted()), so its output cannot be"
                    + " held (a driver domain's?); -n -F leaves the output unbuffered")
        }
        return buffer
    }
}

func makeArbiter(
    _ configuration: Configuration, uuid: String, run: UInt64, _ peer: RunPeer, _ plugins: PluginSet, _ log: Log
) throws(Refusal) -> Arbiter? {
    let arbiter: Arbiter?
    do throws(ArbiterError) {
        arbiter = try makeArbiter(
            configuration, guestUUID: uuid, hostName: hostName(), run: run, peer: peer, plugins: plugins, log: log)
    } catch {
        throw Refusal("the arbiter is not ready: \(error)")
    }
    if arbiter == nil, configuration.arbiter != .none {
        throw Refusal(Configuration.noPluginIsAnArbiter)
    }
    return arbiter
}

extension ArbiterDesk {
    convenience init(of side: Side, _ arbiter: Arbiter, guest: String, _ log: Log) throws(SystemError) {
        try self.init(
            { interest in
                arbiter.decide(
                    side, note: { log.warning($0) }, isWithdrawn: interest.isWithdrawn,
                    isCancelled: interest.isCancelled)
            }, settling: { arbiter.settle($0, by: side, guest: guest, log) })
    }
}

extension PluginSet {
    static func loaded(_ settings: PluginSettings, _ host: PluginHost, _ log: Log) throws(Refusal) -> PluginSet {
        do throws(PluginError) {
            return try PluginSet(settings, host, log: log)
        } catch {
            throw Refusal("\(error)")
        }
    }
}

extension Arbiter {
    func prepared(_ side: Side) throws(Refusal) {
        do throws(ArbiterError) {
            try prepare(side)
        } catch {
            throw Refusal("the arbiter is not ready: \(error); `romulus test' tells more")
        }
    }
}

/// A session goes on without one: then nobody can speak to it, and it says so.
func adminSocket(_ name: String, _ log: Log) -> AdminSocket? {
    do throws(SystemError) {
        return try AdminSocket(name: name)
    } catch {
        log.warning("romulus status, resume and yield will not reach this run: \(error)")
        return nil
    }
}

private func hostName() -> String {
    var name = [CChar](repeating: 0, count: 256)
    guard gethostname(&name, name.count - 1) == 0 else { return "unknown" }
    return name.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
}
