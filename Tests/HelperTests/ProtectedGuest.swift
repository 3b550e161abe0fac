import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen

/// A simulated guest under Romulus: the real relays on both sides, the stock helper with the hook on the primary, the
/// stock helper without it on the backup. The test plays `xl`.
final class ProtectedGuest: Sendable {
    static let controlNumber: Int32 = 22
    static let leaseNumber: Int32 = 23
    static let markNumber: Int32 = 24

    let source: SimulatedDomain
    let target: SimulatedDomain
    let copies = EpochCopies()
    let primary: PrimaryRelay
    let backup: BackupRelay
    let freezer: Freezer
    let output = RecordingOutput()
    /// Whether there is a replica, as whoever comes after the primary would find it.
    let notes = Shared([Bool]())
    /// To the backup, and back.
    let wire: Wire
    let backWire: Wire
    /// The test's own, as in `xl remus` and `xl migrate-receive`.
    let plugins: (primary: PluginSet, backup: PluginSet)
    let saver: HelperProcess.Service
    /// What the guard is forked from; the relay is in this process.
    let xl: GuardedXl
    /// What the backup's relay has given to libxl.
    let tap: StreamTap
    private let restorer = Shared<HelperProcess.Service?>(nil)
    private let receiver: Background<(restored: HelperProcess.Outcome?, relay: BackupRelay.Outcome)>
    private let requests = Shared<[ContinuousClock.Instant]>([])
    private let commits = Shared(0)

    struct Settings {
        var pages = 1024
        var fault = Wire.Fault.none
        /// Where the fault strikes, instead of the offset that it names.
        var place: FrameScanner.Place?
        var detectTimeoutMilliseconds = 1000
        var patienceMilliseconds = 10_000
        var periodMilliseconds = 5
        var stagingBytes = 8 << 20
        var engine = Engine.native
        /// False for a save helper that never heard of Romulus.
        var isHelperHooked = true
        /// How many pages each side keeps; 0 where pages go as they are.
        var slots = (primary: 0, backup: 0)
        var compression = Compression.lz4
        /// The default is the guest's memory and a little more.
        var epochLimitBytes: Int?
        var isReplicaUnpaused = true
        var restoreKibibytesPerMillisecond: Int?
        var seed: UInt64 = 1
        /// What the guest does while it runs.
        var dirtyPages = 40
        /// Where libxl has given its order; false if it gives up on the guest.
        var suspends: @Sendable () -> Bool = { true }
        var whileSuspended: @Sendable () -> Void = {}
        /// Where libxl has resumed it, and the helper has not heard of it.
        var whileResumed: @Sendable () -> Void = {}
        var epochWatch = EpochWatch()
        var guestLeave: @Sendable () -> PrimarySession.GuestLeave? = { nil }
        var isServed: @Sendable () -> Bool = { true }
        var isGuarded: @Sendable () -> Bool = { true }
        /// What each side hears when it asks.
        var arbiter = ArbiterKind.fence
        var primaryVerdict = ArbiterVerdict.refused("the test")
        var backupVerdict = ArbiterVerdict.granted("the test")
        /// In place of the primary's verdict.
        var primaryQuestion: ArbiterDesk.Question?
        var backupQuestion: ArbiterDesk.Question?
        var settling: ArbiterDesk.Settling = { .word($0, isTold: true) }
        /// Of each process; a file of its own for each, because this one is two of them.
        var plugins = (primary: [String](), helper: [String](), backup: [String]())
        var pluginTimeoutMilliseconds = 1000
        /// Of `epoch_log`.
        var trace: String?
        var log = Log(guest: "test")
        /// The backup's own, in place of that.
        var backupLog: Log?
        var canFreeze = true
        var realtimePriority = 0
        var locksMemory = false
    }

    init(in folder: TemporaryFolder, _ settings: Settings = Settings()) throws {
        let source = try SimulatedDomain(
            guestAt: folder("source"), domid: 7, pageCount: settings.pages, seed: settings.seed)
        self.source = source
        freezer = Freezer(of: source, isAble: settings.canFreeze)
        target = try SimulatedDomain(emptyAt: folder("target"), domid: 9, pageCount: settings.pages)
        backWire = try Wire()
        wire = try Wire(settings.fault, at: settings.place, waitingFor: backWire)
        let log = settings.log
        let patience = Int64.nanoseconds(milliseconds: settings.patienceMilliseconds)
        func load(_ plugins: [String], _ host: PluginHost) throws -> PluginSet {
            try PluginSet(
                .init(plugins: plugins, timeoutMilliseconds: settings.pluginTimeoutMilliseconds), host, log: log)
        }
        plugins = (
            try load(settings.plugins.primary, PluginHost(.remus, guest: "test", domain: 7)),
            try load(settings.plugins.backup, PluginHost(.receive, guest: "test"))
        )
        let suspicion = try SuspicionPlugins(plugins.backup)
        var relaySettings = PrimaryRelay.Configuration(
            session: .init(
                guest: "test", patienceNanoseconds: patience, hasBackChannel: true, arbiter: settings.arbiter,
                isUnsafeAccepted: false),
            run: settings.seed,
            helper: .init(
                stagingBytes: settings.stagingBytes, engine: settings.engine,
                realtimePriority: settings.realtimePriority, locksMemory: settings.locksMemory),
            schedule: .fixed(periodNanoseconds: .nanoseconds(milliseconds: settings.periodMilliseconds)),
            pages: settings.slots.primary == 0
                ? nil : .init(slots: settings.slots.primary, compression: settings.compression))
        relaySettings.epochWatch = settings.epochWatch
        relaySettings.hangingNanoseconds = .nanoseconds(milliseconds: 2000)
        let epochLimitBytes = settings.epochLimitBytes ?? settings.pages * 4096 + (1 << 20)
        let (primaryVerdict, backupVerdict) = (settings.primaryVerdict, settings.backupVerdict)
        primary = try PrimaryRelay(
            link: wire.entry.descriptor, back: backWire.exit.descriptor,
            configuration: relaySettings,
            ports: .init(
                guest: freezer.port(
                    leave: settings.guestLeave, isServed: settings.isServed, isGuarded: settings.isGuarded),
                output: output,
                arbiter: try ArbiterDesk(
                    settings.primaryQuestion ?? { _ in primaryVerdict }, settling: settings.settling),
                admin: try AdminSocket(name: "guest.primary", directory: folder.path),
                trace: try settings.trace.map { try EpochTrace(path: $0, guest: "test") },
                plugins: try EpochPlugins(plugins.primary),
                noteReplica: { [notes] isThere in notes.change { $0.append(isThere) } }),
            log: log)
        backup = try BackupRelay(
            link: wire.exit.descriptor, back: backWire.entry.descriptor,
            configuration: .init(
                guest: "test",
                session: .init(
                    detectTimeoutMilliseconds: settings.detectTimeoutMilliseconds, patienceNanoseconds: patience,
                    arbiter: settings.arbiter, pageSlots: settings.slots.backup,
                    hasSecondOpinion: suspicion != nil),
                epochLimitBytes: epochLimitBytes, realtimePriority: settings.realtimePriority),
            ports: .init(
                arbiter: { _ in
                    try? ArbiterDesk(settings.backupQuestion ?? { _ in backupVerdict }, settling: settings.settling)
                }, admin: try AdminSocket(name: "guest.backup", directory: folder.path), suspicion: suspicion,
                sinks: try EpochSinks(plugins.backup, limitBytes: epochLimitBytes)),
            log: settings.backupLog ?? log)
        let (helperEnd, mark) = try OpenFile.pair()
        xl = try GuardedXl(
            of: source, link: try OpenFile(duplicating: wire.entry.descriptor), lease: primary.lease,
            helperEnd: helperEnd, mark: mark,
            .init(realtimePriority: settings.realtimePriority, locksMemory: settings.locksMemory))
        try primary.start()
        try backup.start()

        let stream = try OpenFile(duplicating: primary.streamForLibxl.raw)
        saver = try StockStreams.startRemus(
            source, to: stream, suspends: settings.suspends,
            whileSuspended: { [copies, requests] epoch in
                requests.change { $0.append(.now) }
                copies.keep(try source.copy(to: folder("epoch\(epoch)")), epoch)
                settings.whileSuspended()
            },
            whileResumed: settings.whileResumed,
            afterEpoch: { [commits] epoch in
                // The hook begins an epoch only when the one before is committed.
                commits.set(epoch)
                var generator = SeededGenerator(seed: settings.seed &* 1000 &+ UInt64(epoch))
                source.dirty(settings.dirtyPages, using: &generator)
                return true
            },
            adjust: { [primary] in
                guard settings.isHelperHooked else { return }
                try? Self.hook(&$0, primary, mark)
                $0.environment["ROMULUS_PLUGINS"] =
                    PluginSettings(
                        plugins: settings.plugins.helper, timeoutMilliseconds: settings.pluginTimeoutMilliseconds
                    ).environmentValue
            })

        tap = try StreamTap(
            from: try OpenFile(duplicating: backup.streamForLibxl.raw),
            kibibytesPerMillisecond: settings.restoreKibibytesPerMillisecond)
        // As BackupRun: the relay ends when libxl's restore has returned.
        receiver = Background { [target, backup, tap, restorer] in
            var restored: HelperProcess.Outcome?
            if backup.waitForStream() {
                do {
                    let service = try StockStreams.startRestore(into: target, from: tap.exit, type: .remus)
                    restorer.set(service)
                    restored = try service.outcome()
                } catch HelperTestError.endOfStream {
                    // In libxl's own start of the stream: the restore fails before there is a helper.
                }
            }
            let outcome = backup.join(isRestored: restored?.result == 0)
            // As xl, which unpauses it.
            outcome.farewell?.say(runs: settings.isReplicaUnpaused)
            return (restored, outcome)
        }
    }

    /// Its save helper gets the signal while the guest stands still for that epoch.
    convenience init(
        in folder: TemporaryFolder, helperGets signal: Int32, inEpoch epoch: Int, _ settings: Settings = Settings()
    ) throws {
        let saver = Shared<HelperProcess.Service?>(nil)
        let epochs = Shared(0)
        var settings = settings
        settings.whileSuspended = {
            epochs.change { $0 += 1 }
            guard epochs.value == epoch else { return }
            saver.value?.process.kill(signal)
            saver.set(nil)
        }
        try self.init(in: folder, settings)
        saver.set(self.saver)
    }

    /// As PrimaryRun and the helper's launcher set the helper up.
    static func hook(
        _ configuration: inout HelperProcess.Configuration, _ relay: PrimaryRelay, _ mark: OpenFile? = nil
    ) throws {
        hook(
            &configuration, control: try OpenFile(duplicating: relay.controlForHelper.raw),
            lease: try OpenFile(duplicating: relay.lease.descriptor), mark)
    }

    /// - Parameter mark: what a guard, where there is one, knows it by.
    static func hook(
        _ configuration: inout HelperProcess.Configuration, control: OpenFile, lease: OpenFile, _ mark: OpenFile?
    ) {
        configuration.preload.insert(library, at: 0)
        configuration.environment["ROMULUS_ROLE"] = "helper"
        configuration.environment["ROMULUS_LIBRARY"] = library
        configuration.environment["ROMULUS_CONTROL"] = "\(controlNumber)"
        configuration.environment["ROMULUS_LEASE"] = "\(leaseNumber)"
        configuration.descriptors.append(.init(here: control, there: controlNumber))
        configuration.descriptors.append(.init(here: lease, there: leaseNumber))
        if let mark { configuration.descriptors.append(.init(here: mark, there: markNumber)) }
    }

    /// libromulus.so; ROMULUS_TEST_LIBRARY overrides.
    static var library: String {
        ProcessInfo.processInfo.environment["ROMULUS_TEST_LIBRARY"]
            ?? HelperProcess.Configuration.built("libromulus.so")
    }

    // MARK: What a test does and sees

    /// The epochs before this one were committed: the checkpoint callback of epoch `n` was reached.
    func waitForCommits(_ count: Int, within limit: Duration = .seconds(20)) throws {
        let deadline = ContinuousClock.now + limit
        while commits.value < count {
            guard ContinuousClock.now < deadline else {
                throw HelperTestError.timedOut(waitingFor: "\(count) epochs")
            }
            usleep(1000)
        }
    }

    /// So many epochs the helper has seen committed.
    var commitsSeen: Int { commits.value }

    func waitUntilJammed(within limit: Duration = .seconds(20)) throws {
        let deadline = ContinuousClock.now + limit
        while !wire.isJammed {
            guard ContinuousClock.now < deadline else { throw HelperTestError.timedOut(waitingFor: "the jam") }
            usleep(1000)
        }
    }

    /// As Ctrl-C in `xl remus`.
    func interrupt() {
        var mark = UInt64(1) << 32
        _ = write(primary.signalEvent, &mark, 8)
    }

    /// As `kill` of `xl migrate-receive`.
    func stopBackup() {
        var mark = UInt64(1) << 40
        _ = write(backup.signalEvent, &mark, 8)
    }

    var suspendRequests: [ContinuousClock.Instant] { requests.value }

    struct Ending {
        var saved: HelperProcess.Outcome
        var restored: HelperProcess.Outcome?
        var primary: PrimaryRelay.Outcome
        var backup: BackupRelay.Outcome
    }

    /// As when the save helper's fellow on the backup crashes.
    func killRestorer() { restorer.value?.process.kill(SIGKILL) }

    /// Waits until both helpers have ended, and ends the relays as the hooks do.
    ///
    /// - Parameters:
    ///   - hangsUp: false where the link is to stay open, as after a power cut.
    ///   - resumed: whether libxl can have a guest run again that was left suspended.
    ///   - whenDecided: at the moment when libxl would let a guest go on that does.
    func end(hangsUp: Bool = true, resumed: Bool = true, whenDecided: () -> Void = {}) throws -> Ending {
        let saved = try saver.outcome()
        let primaryOutcome = primary.finish { resumed }
        primary.decideOutput(guestRuns: resumed)
        whenDecided()
        xl.end()
        primary.close()
        if hangsUp { wire.entry.shutDown() }
        let received = try receiver.value(within: .seconds(30))
        wire.entry.shutDown()
        plugins.primary.close()
        plugins.backup.close()
        return Ending(saved: saved, restored: received.restored, primary: primaryOutcome, backup: received.relay)
    }
}

extension OpenFile {
    convenience init(duplicating descriptor: Int32) throws {
        let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw SystemFailure("dup") }
        self.init(adopting: copy)
    }
}
