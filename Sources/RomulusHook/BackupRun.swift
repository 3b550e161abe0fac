import CLinux
import CXen
import Glibc
import RomulusCore
import RomulusHost

/// One `xl migrate-receive -r` on the backup: runs the stock restore behind the relay, and says whether the replica may
/// be activated. xl itself renames and unpauses it, and exits.
enum BackupRun {
    private static let incomingSuffix = "--incoming"

    /// In libxl's own terms: 0, or an ERROR_* code.
    static func createRestore(
        _ context: OpaquePointer?, _ config: UnsafeMutablePointer<libxl_domain_config>?,
        _ domainID: UnsafeMutablePointer<UInt32>?, _ link: Int32, _ back: Int32,
        _ parameters: UnsafePointer<libxl_domain_restore_params>?, _ how: UnsafePointer<libxl_asyncop_how>?,
        _ consoleHow: UnsafePointer<libxl_asyncprogress_how>?
    ) -> Int32 {
        guard let config, let domainID, how == nil,
            parameters?.pointee.checkpointed_stream == Int32(LIBXL_CHECKPOINTED_STREAM_REMUS.rawValue)
        else {
            return Stock.createRestore(context, config, domainID, link, back, parameters, how, consoleHow)
        }
        let incoming = config.pointee.c_info.name.map { String(cString: $0) } ?? ""
        let guest = incoming.hasSuffix(incomingSuffix) ? String(incoming.dropLast(incomingSuffix.count)) : incoming
        let log = Log(guest: guest, role: "backup", events: .standard, isAside: true)
        var lastLines = 1000
        defer { log.drain(milliseconds: lastLines) }
        do throws(Refusal) {
            let uuid = text(of: config.pointee.c_info.uuid)
            guard let lock = try RunLock.taken(RunLock.name(uuid: uuid, .backup)) else {
                throw Refusal("this host already receives checkpoints of this guest")
            }
            defer { withExtendedLifetime(lock) {} }
            try makeRoom(guest: guest, uuid: uuid, incoming: incoming, context, log)
            let configuration = try Configuration.loaded()
            let plugins = try PluginSet.loaded(configuration.plugins, PluginHost(.receive, guest: guest), log)
            if configuration.locksMemory { Urgency.lockMemory(log) }
            defer { if configuration.locksMemory { Urgency.unlockMemory() } }
            let arbiters = RunArbiter(
                try makeArbiter(configuration, uuid: uuid, run: 0, .ofReceiver(), plugins, log), guest: guest, log)
            let relay = try makeRelay(guest, config.pointee, link, back, configuration, arbiters, plugins, log)
            romulus_catch_signals(relay.signalEvent)
            var isTakenOver = false
            defer {
                // xl has a replica to unpause.
                if isTakenOver { romulus_outlive_signals() } else { romulus_release_signals() }
                withExtendedLifetime(relay) {}
            }
            let code =
                relay.waitForStream()
                ? Stock.createRestore(
                    context, config, domainID, relay.streamForLibxl.raw, -1, parameters, nil, consoleHow)
                : Int32(ERROR_FAIL.rawValue)
            let restoredAt = MonotonicTime.now
            let outcome = relay.join(isRestored: code == 0)
            plugins.close()
            let restored = Restored(outcome: outcome, arbiter: arbiters, incoming: incoming, at: restoredAt, log: log)
            let result = restored.concluded(code, context, &domainID.pointee)
            isTakenOver = result == 0
            // A replica that is to run waits for them.
            if isTakenOver { lastLines = 100 }
            return result
        } catch {
            log.error(error.text)
            return Int32(ERROR_INVAL.rawValue)
        }
    }

    /// A failed run of long ago may have left its replica behind; nobody holds this guest's lock, so nobody feeds it.
    private static func makeRoom(
        guest: String, uuid: String, incoming: String, _ context: OpaquePointer?, _ log: Log
    ) throws(Refusal) {
        if let running = Domain.named(guest, context: context) {
            throw Refusal(
                "domain \(running.id) here already has this guest's name: two copies must not run; if it is an old one,"
                    + " remove it with xl destroy \(running.id)")
        }
        guard incoming != guest, let stale = Domain.named(incoming, context: context) else { return }
        // Of another guest that has the same name, on another primary.
        let other = stale.facts().uuid
        let lock = other == uuid ? nil : try RunLock.taken(RunLock.name(uuid: other, .backup))
        guard other == uuid || lock != nil else {
            throw Refusal("this host already receives checkpoints of another guest of this name (UUID \(other))")
        }
        defer { withExtendedLifetime(lock) {} }
        guard !OtherReceivers.areThere() else {
            throw Refusal(
                "domain \(stale.id) (\(incoming)) may be one that an xl migrate fills, for an xl migrate-receive runs here that is"
                    + " not Romulus's: try again when it has ended; a domain that is nobody's is removed with xl destroy"
                    + " \(stale.id)")
        }
        guard stale.destroy() else {
            throw Refusal("cannot remove the old replica \(incoming); try xl destroy \(stale.id)")
        }
        log.note("removed the replica that an earlier run had left behind (domain \(stale.id))")
    }

    private static func makeRelay(
        _ guest: String, _ config: libxl_domain_config, _ link: Int32, _ back: Int32,
        _ configuration: Configuration, _ arbiter: RunArbiter, _ plugins: PluginSet, _ log: Log
    ) throws(Refusal) -> BackupRelay {
        let uuid = text(of: config.c_info.uuid)
        try arbiter.prepared?.prepared(.backup)
        let epochLimitBytes = configuration.epochLimitBytes(guestKiB: config.b_info.max_memkb)
        do throws(SystemError) {
            let suspicion = try SuspicionPlugins(plugins)
            // It removes what this host's own run of earlier has left, which protects the guest no more.
            let metrics = try configuration.metricsFile(guest: guest, log)
            let ports = BackupRelay.Ports(
                arbiter: arbiter.desk,
                admin: adminSocket(RunLock.name(uuid: uuid, .backup), log), suspicion: suspicion,
                sinks: try EpochSinks(plugins, limitBytes: epochLimitBytes), metrics: metrics)
            let relay = try BackupRelay(
                link: link, back: back,
                configuration: .init(
                    guest: guest,
                    session: .init(
                        detectTimeoutMilliseconds: configuration.detectTimeoutMilliseconds,
                        patienceNanoseconds: configuration.patienceNanoseconds, arbiter: configuration.arbiter,
                        pageSlots: configuration.pageSlots(guestKiB: config.b_info.max_memkb),
                        hasSecondOpinion: suspicion != nil),
                    epochLimitBytes: epochLimitBytes, realtimePriority: configuration.realtimePriority),
                ports: ports, log: log)
            try relay.start()
            return relay
        } catch {
            throw Refusal("cannot start: \(error)")
        }
    }
}
