import CLinux
import CXen
import Glibc
import RomulusCore
import RomulusHost

/// One `xl remus` on the primary: takes from libxl what Romulus does better, runs the stock save behind the relay, and
/// says what became of the guest.
enum PrimaryRun {
    /// The domain whose run has ended in this process. xl is one run and one thread.
    nonisolated(unsafe) private static var endedDomain: UInt32?

    /// In libxl's own terms: 0, or an ERROR_* code.
    static func start(
        _ context: OpaquePointer?, _ info: UnsafeMutablePointer<libxl_domain_remus_info>?, _ domainID: UInt32,
        _ link: Int32, _ back: Int32, _ how: UnsafePointer<libxl_asyncop_how>?
    ) -> Int32 {
        guard let info, how == nil, !libxl_defbool_is_default(info.pointee.colo), !libxl_defbool_val(info.pointee.colo)
        else { return Stock.remusStart(context, info, domainID, link, back, how) }

        let domain = Domain(context: context, id: domainID)
        let guest = domain.name ?? "domain \(domainID)"
        let log = Log(guest: guest)
        endedDomain = domainID
        do throws(Refusal) {
            return try run(domain, guest: guest, info.pointee, link, back, log)
        } catch {
            log.error(error.text)
            return Int32(ERROR_INVAL.rawValue)
        }
    }

    /// xl resumes the guest after every run that has not destroyed it. One that runs already, or has shut down, needs no
    /// resuming, and libxl would only report an error.
    static func resume(
        _ context: OpaquePointer?, _ domainID: UInt32, _ suspendCancel: Int32,
        _ how: UnsafePointer<libxl_asyncop_how>?
    ) -> Int32 {
        if endedDomain == domainID, Domain(context: context, id: domainID).state != .suspended { return 0 }
        return Stock.resume(context, domainID, suspendCancel, how)
    }

    // MARK: One run

    private static func run(
        _ domain: Domain, guest: String, _ asked: libxl_domain_remus_info, _ link: Int32, _ back: Int32, _ log: Log
    ) throws(Refusal) -> Int32 {
        let configuration = try Configuration.loaded()
        let facts = domain.facts()
        if facts.isParavirtual, !Domain.canLogParavirtualPages(context: domain.context) {
            throw Refusal(
                "a PV guest cannot be protected on this Xen, which is built without shadow paging and so cannot log"
                    + " its dirty pages; use a PVH or HVM guest")
        }
        guard let lock = try RunLock.taken("\(guest).primary") else {
            throw Refusal("another xl remus protects this guest already")
        }
        defer { withExtendedLifetime(lock) {} }

        var info = asked
        takeOver(&info, log)
        let relay = try makeRelay(domain, asked, facts, link, back, configuration, log)
        let code = try runStock(domain, &info, relay)
        return conclude(domain, relay, code: code, log)
    }

    /// libxl keeps the suspending, resuming and device states; the rest becomes ours.
    private static func takeOver(_ info: inout libxl_domain_remus_info, _ log: Log) {
        let isUnsafeAccepted = isTrue(info.allow_unsafe, otherwise: false)
        if !isTrue(info.blackhole, otherwise: false) {
            if !isUnsafeAccepted { warnOfMissingProtection(log) }
            // libxl asks for -F when a job is taken from it. Stock's rule for -b stays as it is.
            libxl_defbool_set(&info.allow_unsafe, true)
        }
        libxl_defbool_set(&info.netbuf, false)
        libxl_defbool_set(&info.diskbuf, false)
        info.interval = 0
    }

    private static func warnOfMissingProtection(_ log: Log) {
        log.warning(
            "the network output is not held until the backup has the epoch: after a failover, clients may have seen"
                + " packets that the guest does not know of (-F silences this)")
        log.warning(
            "disks are not replicated: give both hosts the same storage, or a guest without disks (-F silences this)")
    }

    private static func isTrue(_ value: libxl_defbool, otherwise: Bool) -> Bool {
        libxl_defbool_is_default(value) ? otherwise : libxl_defbool_val(value)
    }

    private static func makeRelay(
        _ domain: Domain, _ asked: libxl_domain_remus_info, _ facts: Domain.Facts, _ link: Int32, _ back: Int32,
        _ configuration: Configuration, _ log: Log
    ) throws(Refusal) -> PrimaryRelay {
        let period = asked.interval > 0 ? Int(asked.interval) : 200
        do throws(SystemError) {
            let trace: EpochTrace? =
                if let path = configuration.epochLogPath { try EpochTrace(path: path) } else { nil }
            return try PrimaryRelay(
                link: link, back: back,
                configuration: .init(
                    stagingBytes: configuration.stagingBytes(guestKiB: facts.memoryKiB),
                    periodNanoseconds: .nanoseconds(milliseconds: period),
                    patienceNanoseconds: configuration.patienceNanoseconds),
                log: log, trace: trace, guestLeave: GuestWatch(domainID: domain.id).leave)
        } catch {
            throw Refusal("cannot start: \(error)")
        }
    }

    /// The stock function, with our pipe for its stream and our helper launcher for its helper.
    private static func runStock(
        _ domain: Domain, _ info: inout libxl_domain_remus_info, _ relay: PrimaryRelay
    ) throws(Refusal) -> Int32 {
        signal(SIGPIPE, SIG_IGN)
        romulus_catch_signals(relay.signalEvent)
        defer { romulus_release_signals() }
        let environment = HelperEnvironment(control: relay.controlForHelper.raw, link: relay.linkDescriptor)
        defer { environment.withdraw() }
        do throws(SystemError) {
            try relay.start()
        } catch {
            throw Refusal("cannot start: \(error)")
        }
        return Stock.remusStart(domain.context, &info, domain.id, relay.streamForLibxl.raw, -1, nil)
    }

    // MARK: The end of a run

    private static func conclude(_ domain: Domain, _ relay: PrimaryRelay, code: Int32, _ log: Log) -> Int32 {
        let state = domain.state
        let outcome = relay.finish { outcome in lastWords(state, outcome) }
        log.note(outcome.statistics.summary(at: .now))
        if !outcome.wasFarewellHeard { Transport.end() }

        if outcome.isReplicaActive, state != .gone {
            log.error("the replica runs on the backup: the copy here is destroyed, so that only one runs")
            if !domain.destroy() {
                log.error("could not destroy domain \(domain.id): do it now with xl destroy \(domain.id)")
            }
            return Int32(ERROR_FAIL.rawValue)
        }
        log.write(verdict(state, outcome))
        return code == 0 ? Int32(ERROR_FAIL.rawValue) : code
    }

    /// What the backup is told, if it still listens.
    private static func lastWords(_ state: Domain.State, _ outcome: PrimaryRelay.Outcome) -> Message {
        switch (state, outcome.end) {
        case (.gone, _):
            .farewell(.primaryDestroyed, text: "the primary's copy has been destroyed")
        case (.shutDown, _):
            .farewell(.guestShutDown, text: "the guest has shut down")
        case (_, .stopRequested(let signal)):
            .farewell(.protectionEnded, text: "protection was ended by \(signal); the guest goes on at the primary")
        case (_, _):
            .farewell(.primaryFailed, text: "checkpointing failed; the guest goes on at the primary")
        }
    }

    /// The line an admin needs: what happened, what becomes of the guest, what to do.
    private static func verdict(_ state: Domain.State, _ outcome: PrimaryRelay.Outcome) -> LogLine {
        switch (state, outcome.end) {
        case (_, .guestLeft(.shutDown)), (.shutDown, _):
            return .note("protection ended: the guest has shut down; its replica is discarded")
        case (.gone, _):
            return .warning("protection ended: the domain was destroyed here; the backup takes over")
        case (.alive, _), (.suspended, _):
            break
        }
        let goesOn = "the guest goes on here, unprotected; start xl remus again to protect it"
        let replica =
            if outcome.wasFarewellHeard { "its replica is discarded" } else if outcome.acknowledgedEpoch == .none {
                "there was no complete replica"
            } else { "the backup may have activated its replica: look there with xl list before both are used" }
        return switch outcome.end {
        case .stopRequested(let signal): .note("protection ended by \(signal): \(goesOn); \(replica)")
        case .saveEnded, .guestLeft: .error("checkpointing failed (the lines above say why): \(goesOn); \(replica)")
        case .linkBroken(let reason): .error("\(reason): \(goesOn); \(replica)")
        case .backupSilent(let milliseconds):
            .error("no byte from the backup for \(milliseconds) ms: \(goesOn); \(replica)")
        case .backupLeft(_, let text): .error("the backup gave up (\(text)): \(goesOn)")
        }
    }
}

/// Why a run was not begun, in the admin's words.
struct Refusal: Error {
    let text: String
    init(_ text: String) { self.text = text }
}

extension Configuration {
    static func loaded() throws(Refusal) -> Configuration {
        do throws(ConfigurationError) {
            return try Configuration(path: defaultPath)
        } catch {
            throw Refusal("\(error); correct the file, then start again")
        }
    }
}

extension RunLock {
    static func taken(_ name: String) throws(Refusal) -> RunLock? {
        do throws(SystemError) {
            return try take(name)
        } catch {
            throw Refusal("cannot lock: \(error)")
        }
    }
}
