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
    /// It was decided against the copy here, it is somebody else's, or the run was not begun and the guest is as it was found.
    nonisolated(unsafe) private static var mustNotResume = false

    /// In libxl's own terms: 0, or an ERROR_* code.
    static func start(
        _ context: OpaquePointer?, _ info: UnsafeMutablePointer<libxl_domain_remus_info>?, _ domainID: UInt32,
        _ link: Int32, _ back: Int32, _ how: UnsafePointer<libxl_asyncop_how>?
    ) -> Int32 {
        guard let info, how == nil, !libxl_defbool_is_default(info.pointee.colo), !libxl_defbool_val(info.pointee.colo)
        else { return Stock.remusStart(context, info, domainID, link, back, how) }

        // Before the log, whose lines have threads of their own.
        let guardian = Result { () throws(SystemError) in try Guard.posted(domain: domainID, link: [link, back]) }
        let domain = Domain(context: context, id: domainID)
        let guest = domain.name ?? "domain \(domainID)"
        let log = Log(guest: guest, events: .standard, isAside: true)
        defer { log.drain() }
        endedDomain = domainID
        do throws(Refusal) {
            let guardian = try posted(guardian)
            defer { guardian.relieve() }
            return try run(domain, guest: guest, info.pointee, link, back, guardian, log)
        } catch {
            log.error(error.text)
            mustNotResume = true
            return Int32(ERROR_INVAL.rawValue)
        }
    }

    /// xl resumes the guest after every run that has not destroyed it. One that runs already, or has shut down, needs no
    /// resuming, and one that must not run gets none: xl's guess does not undo the decision. Nor does one that this run
    /// has not touched: another run may have suspended it for a moment, or have left it so.
    static func resume(
        _ context: OpaquePointer?, _ domainID: UInt32, _ suspendCancel: Int32,
        _ how: UnsafePointer<libxl_asyncop_how>?
    ) -> Int32 {
        if endedDomain == domainID, mustNotResume || Domain(context: context, id: domainID).state != .suspended {
            return 0
        }
        return Stock.resume(context, domainID, suspendCancel, how)
    }

    private static func posted(_ guardian: Result<Guard, SystemError>) throws(Refusal) -> Guard {
        do throws(SystemError) {
            return try guardian.get()
        } catch {
            throw Refusal("cannot start: \(error)")
        }
    }

    // MARK: One run

    private static func run(
        _ domain: Domain, guest: String, _ asked: libxl_domain_remus_info, _ link: Int32, _ back: Int32,
        _ guardian: Guard, _ log: Log
    ) throws(Refusal) -> Int32 {
        let configuration = try Configuration.loaded()
        let facts = domain.facts()
        if facts.isParavirtual, !Domain.canLogParavirtualPages(context: domain.context) {
            throw Refusal(
                "a PV guest cannot be protected on this Xen, which is built without shadow paging and so cannot log"
                    + " its dirty pages; use a PVH or HVM guest")
        }
        guard facts.state != .gone else { throw Refusal("there is no domain \(domain.id) any more") }
        guard !domain.hasPassedThrough else {
            throw Refusal(
                "a guest with PCI devices of this host cannot be protected, because their state cannot be copied; give it vifs"
                    + " instead, and xl pci-detach them")
        }
        if let file = AutoStart.file(of: guest) {
            log.warning(
                "\(file) starts the guest when this host boots, also while its replica runs on the backup: remove it from"
                    + " there")
        }
        guard let lock = try RunLock.taken(RunLock.name(uuid: facts.uuid, .primary)) else {
            throw Refusal("another xl remus protects this guest already")
        }
        defer { withExtendedLifetime(lock) {} }

        let leftovers = try Leftovers.found(of: domain.id)
        let wasKilled = leftovers.areThere || lock.notedDomain == domain.id
        if let objection = objection(
            to: facts, domain.id, guest: guest, hasLeftovers: wasKilled, hadReplica: lock.notedDomain == domain.id)
        {
            throw Refusal(objection)
        }
        lock.note(replicaOf: nil)
        let plugins = try PluginSet.loaded(
            configuration.plugins, PluginHost(.remus, guest: guest, domain: domain.id), log)
        let protection = try Protection(
            domain, guest: guest, facts, asked, configuration, plugins, leftovers, hasBackChannel: back >= 0, log)
        if configuration.locksMemory { Urgency.lockMemory(log) }
        defer { if configuration.locksMemory { Urgency.unlockMemory() } }
        defer { lock.note(replicaOf: nil) }
        let helper = HelperSettings(
            stagingBytes: configuration.stagingBytes(guestKiB: facts.memoryKiB), engine: configuration.engine,
            realtimePriority: configuration.realtimePriority, locksMemory: configuration.locksMemory)
        let relay = try makeRelay(
            lock, protection, facts, asked, link, back, guardian, helper, configuration, log)
        guardian.begin(helper)
        var info = asked
        takeOver(&info)
        let outcome = try runStock(domain, &info, relay, guardian, configuration.plugins)
        let runs = letGoOn(domain, outcome, guardian.lease)
        relay.decideOutput(guestRuns: runs)
        switch outcome.end.fate {
        case .goesOn where runs, .hasLeft: guardian.relieve()
        case .goesOn, .yields: break
        }
        relay.close()
        protection.end(outcome.end, runs: runs)
        plugins.close()
        let code = conclude(domain, outcome, runs: runs, log)
        guardian.relieve()
        if runs { relay.tellBackup() }
        if !outcome.wasFarewellHeard { Transport.end() }
        return code
    }

    /// A copy that stands still with its output held is one that an earlier run's guard has stopped, because the backup
    /// takes over: whose turn it is nobody here knows.
    static func objection(
        to facts: Domain.Facts, _ id: UInt32, guest: String, hasLeftovers: Bool, hadReplica: Bool
    ) -> String? {
        guard hasLeftovers, facts.isPaused || facts.state == .suspended else { return nil }
        guard hadReplica || facts.isPaused else {
            return
                "an earlier xl remus was killed before its backup had a replica, and the guest stands still: romulus resume"
                + " \(guest) lets it go on; then start xl remus again"
        }
        return
            "an earlier xl remus was killed, and the copy here stands still because the backup takes over: look there"
            + " with xl list; if the guest runs there, remove this copy with xl destroy \(id); only if it does not, and"
            + " never will, romulus resume \(guest) lets this copy go on"
    }

    /// libxl keeps the suspending, resuming and device states; the rest becomes ours.
    private static func takeOver(_ info: inout libxl_domain_remus_info) {
        if !isTrue(info.blackhole) {
            // libxl asks for -F when a job is taken from it. Stock's rule for -b stays as it is.
            libxl_defbool_set(&info.allow_unsafe, true)
        }
        libxl_defbool_set(&info.netbuf, false)
        libxl_defbool_set(&info.diskbuf, false)
        info.netbufscript = nil
        info.interval = 0
    }

    private static func makeRelay(
        _ lock: RunLock, _ protection: Protection, _ facts: Domain.Facts, _ asked: libxl_domain_remus_info,
        _ link: Int32, _ back: Int32, _ guardian: Guard, _ helper: HelperSettings,
        _ configuration: Configuration, _ log: Log
    ) throws(Refusal) -> PrimaryRelay {
        do throws(SystemError) {
            var ports = try protection.ports(configuration, lock)
            ports.guest.isGuarded = { guardian.isThere }
            return try PrimaryRelay(
                link: link, back: back, lease: guardian.lease,
                configuration: .init(
                    session: .init(
                        guest: protection.guest, patienceNanoseconds: configuration.patienceNanoseconds,
                        hasBackChannel: back >= 0, arbiter: configuration.arbiter,
                        isUnsafeAccepted: isTrue(asked.allow_unsafe)),
                    run: protection.run,
                    helper: helper,
                    schedule: schedule(asked, configuration),
                    pages: isFalse(asked.compression)
                        ? nil
                        : .init(
                            slots: configuration.pageSlots(guestKiB: facts.memoryKiB),
                            compression: configuration.compression)),
                ports: ports, log: log)
        } catch {
            throw Refusal("cannot start: \(error)")
        }
    }

    /// `-i` on the command line wins over the file. libxl cannot tell it from its default.
    private static func schedule(_ asked: libxl_domain_remus_info, _ configuration: Configuration) -> SchedulePolicy {
        guard XlArguments.own.hasInterval, asked.interval > 0 else { return configuration.schedule }
        return .fixed(periodNanoseconds: .nanoseconds(milliseconds: Int(asked.interval)))
    }

    /// The stock function, with our pipe for its stream and our helper launcher for its helper; then what the run came
    /// to, which may have to wait for an arbiter or the admin.
    private static func runStock(
        _ domain: Domain, _ info: inout libxl_domain_remus_info, _ relay: PrimaryRelay, _ guardian: Guard,
        _ plugins: PluginSettings
    ) throws(Refusal) -> PrimaryRelay.Outcome {
        signal(SIGPIPE, SIG_IGN)
        romulus_catch_signals(relay.signalEvent)
        defer { romulus_release_signals() }
        let environment = HelperEnvironment(
            control: relay.controlForHelper.raw, lease: guardian.lease.descriptor, mark: guardian.helperMark.raw,
            plugins: plugins)
        do throws(SystemError) {
            try relay.start()
        } catch {
            environment.withdraw()
            throw Refusal("cannot start: \(error)")
        }
        _ = Stock.remusStart(domain.context, &info, domain.id, relay.streamForLibxl.raw, -1, nil)
        environment.withdraw()
        return relay.finish { resumed(domain) }
    }

    /// As xl does after a run, with the guest's output still held. What counts is what became of it, whatever libxl says: one
    /// that has gone or shut down is the relay's to see.
    private static func resumed(_ domain: Domain) -> Bool {
        if domain.state == .suspended { _ = Stock.resume(domain.context, domain.id, 1, nil) }
        return switch domain.state {
        case .alive, .shutDown: true
        case .gone, .suspended: false
        }
    }

    // MARK: The end of a run

    /// As xl does in the end, but before anything else is done or said: a checkpoint may have left the guest suspended.
    ///
    /// - Returns: false where the guest was granted and cannot run, so that the replica may: then it stays as it is.
    private static func letGoOn(_ domain: Domain, _ outcome: PrimaryRelay.Outcome, _ lease: SharedLease) -> Bool {
        guard case .goesOn(let replica) = outcome.end.fate else { return true }
        guard outcome.isSuspensionOurs || domain.state != .suspended else {
            mustNotResume = true
            return true
        }
        let runs = resumed(domain)
        guard !runs, case .ruledOut = replica, domain.state == .gone || domain.pause() else { return true }
        // Nothing that resumes it later is to make it a second copy.
        mustNotResume = true
        lease.noteRelay(hasFrozen: true)
        lease.decideReplica(mayRun: true)
        return false
    }

    private static func conclude(
        _ domain: Domain, _ outcome: PrimaryRelay.Outcome, runs: Bool, _ log: Log
    ) -> Int32 {
        log.note(outcome.statistics.summary(at: .now))
        log.write(runs ? verdict(outcome, domain) : cannotRun(outcome, domain))
        if outcome.end.cause == .guestLeft(.taken) { mustNotResume = true }
        if runs, case .goesOn = outcome.end.fate, outcome.isSuspendOrderOut { awaitLateSuspension(domain, log) }
        if case .yields = outcome.end.fate {
            mustNotResume = true
            if domain.state != .gone, !domain.destroy() {
                log.error("could not destroy the copy here: do it now with xl destroy \(domain.id)")
            }
        }
        // Not libxl's own code: xl resumes after every failure but a guest that did not suspend in time.
        return Int32(ERROR_FAIL.rawValue)
    }

    /// Until the guest will not follow the order to suspend that nobody waits for any more. Where it does, xl resumes it.
    private static func awaitLateSuspension(_ domain: Domain, _ log: Log) {
        let store = XenstoreConnection()
        if store.takeSuspendOrder(of: domain.id) { return }
        var isPauseTold = false
        var deadline = MonotonicTime.now + lateNanoseconds
        while MonotonicTime.now < deadline {
            let facts = domain.facts()
            guard facts.state == .alive else { return }
            // A new order is somebody else's, and so is what follows.
            if store.hasSuspendOrder(domain.id) {
                mustNotResume = true
                return
            }
            if facts.isPaused {
                deadline = .now + lateNanoseconds
                if !isPauseTold {
                    log.warning(
                        "the guest is paused in the middle of a checkpoint that was given up: this xl remus stays until it"
                            + " runs again (xl unpause), to resume it if it suspends then")
                }
                isPauseTold = true
            }
            usleep(100_000)
        }
    }

    /// A Linux guest that cannot freeze its tasks gives up after 20 seconds.
    private static let lateNanoseconds: Int64 = 25_000_000_000

    private static func cannotRun(_ outcome: PrimaryRelay.Outcome, _ domain: Domain) -> LogLine {
        .error(
            "\(outcome.end.cause.text): the guest was to go on here and cannot be resumed (xl's lines above say why), so the copy"
                + " here stays paused; look for it on the backup, and if it runs there, xl destroy \(domain.id) here")
    }

    /// The line an admin needs: what happened, what becomes of the guest, what to do.
    private static func verdict(_ outcome: PrimaryRelay.Outcome, _ domain: Domain) -> LogLine {
        let cause = outcome.end.cause.text
        switch outcome.end.fate {
        case .yields(let why):
            return .error(
                "\(cause): the copy here is destroyed, so that only one runs (\(why)); look for it on the backup")
        case .hasLeft(let replica):
            if case .guestLeft(.taken) = outcome.end.cause {
                return .warning(
                    "protection ended: \(cause), and goes on with it; \(what(becomesOf: replica, outcome)); when the guest runs"
                        + " here again, start xl remus again to protect it")
            }
            if case .guestLeft(.destroyed) = outcome.end.cause {
                return .warning("protection ended: \(cause); the backup takes over")
            }
            let text = "protection ended: \(cause); \(what(becomesOf: replica, outcome))"
            guard case .guestLeft(.crashed) = outcome.end.cause else {
                return replica == .unknown && !outcome.wasFarewellHeard ? .warning(text) : .note(text)
            }
            let next =
                GuestKeeper.keeps(domain.id)
                ? "what its on_crash says is done here now"
                : "no xl is there to do what its on_crash says: xl destroy \(domain.id) removes what is left"
            return .warning("\(text); \(next)")
        case .goesOn(let replica):
            let goesOn = "the guest goes on here, unprotected; start xl remus again to protect it"
            let text = "\(cause): \(goesOn); \(what(becomesOf: replica, outcome))"
            if case .stopRequested = outcome.end.cause { return .note(text) }
            return .error(text)
        }
    }

    private static func what(
        becomesOf replica: PrimarySession.Replica, _ outcome: PrimaryRelay.Outcome
    ) -> String {
        switch replica {
        case .none: "there was no complete replica"
        case .discarded: "its replica is discarded"
        case .ruledOut(let why): "its replica will not run: \(why)"
        case .unknown where outcome.wasFarewellHeard: "its replica is discarded"
        case .unknown where outcome.end.cause.isOfGuest:
            "the backup may have activated its replica all the same: look there with xl list, and remove it with xl destroy"
        case .unknown: "the backup may have activated its replica: look there with xl list before both are used"
        }
    }
}

/// An option that was given and says yes.
func isTrue(_ value: libxl_defbool) -> Bool {
    !libxl_defbool_is_default(value) && libxl_defbool_val(value)
}

/// An option that was given and says no.
func isFalse(_ value: libxl_defbool) -> Bool {
    !libxl_defbool_is_default(value) && !libxl_defbool_val(value)
}
