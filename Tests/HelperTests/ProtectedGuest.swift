import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen

/// A simulated guest under Romulus: the real relays on both sides, the stock helper with the hook on the primary, the
/// stock helper without it on the backup. The test plays `xl`.
final class ProtectedGuest: Sendable {
    static let controlNumber: Int32 = 22
    static let linkNumber: Int32 = 23

    let source: SimulatedDomain
    let target: SimulatedDomain
    let copies = EpochCopies()
    let primary: PrimaryRelay
    let backup: BackupRelay
    let wire: Wire
    let saver: HelperProcess.Service
    private let restorer: Background<HelperProcess.Outcome>
    private let requests = Shared<[ContinuousClock.Instant]>([])
    private let commits = Shared(0)

    struct Settings {
        var pages = 1024
        var fault = Wire.Fault.none
        var detectTimeoutMilliseconds = 1000
        var patienceMilliseconds = 10_000
        var periodMilliseconds = 5
        var stagingBytes = 8 << 20
        var seed: UInt64 = 1
        /// What the guest does while it runs.
        var dirtyPages = 40
        var guestLeave: @Sendable () -> PrimarySession.GuestLeave? = { nil }
    }

    init(in folder: TemporaryFolder, _ settings: Settings = Settings()) throws {
        let source = try SimulatedDomain(
            guestAt: folder("source"), domid: 7, pageCount: settings.pages, seed: settings.seed)
        self.source = source
        target = try SimulatedDomain(emptyAt: folder("target"), domid: 9, pageCount: settings.pages)
        wire = try Wire(settings.fault)
        let (backHere, backThere) = try OpenFile.pair()
        let log = Log(guest: "test")
        let patience = Int64.nanoseconds(milliseconds: settings.patienceMilliseconds)
        primary = try PrimaryRelay(
            link: wire.entry.descriptor, back: backHere.descriptor,
            configuration: .init(
                stagingBytes: settings.stagingBytes,
                periodNanoseconds: .nanoseconds(milliseconds: settings.periodMilliseconds),
                patienceNanoseconds: patience), log: log, guestLeave: settings.guestLeave)
        backup = try BackupRelay(
            link: wire.exit.descriptor, back: backThere.descriptor,
            configuration: .init(
                session: .init(
                    detectTimeoutMilliseconds: settings.detectTimeoutMilliseconds, patienceNanoseconds: patience),
                epochLimitBytes: settings.pages * 4096 + (1 << 20)), log: log)
        ends = [backHere, backThere]
        try primary.start()
        try backup.start()

        let stream = try OpenFile(duplicating: primary.streamForLibxl.raw)
        saver = try StockStreams.startRemus(
            source, to: stream,
            whileSuspended: { [copies, requests] epoch in
                requests.change { $0.append(.now) }
                copies.keep(try source.copy(to: folder("epoch\(epoch)")), epoch)
            },
            afterEpoch: { [commits] epoch in
                // The hook begins an epoch only when the one before is committed.
                commits.set(epoch)
                var generator = SeededGenerator(seed: settings.seed &* 1000 &+ UInt64(epoch))
                source.dirty(settings.dirtyPages, using: &generator)
                return true
            },
            adjust: { [primary] in try? Self.hook(&$0, primary) })

        let restoreFrom = try OpenFile(duplicating: backup.streamForLibxl.raw)
        restorer = Background { [target] in
            try StockStreams.startRestore(into: target, from: restoreFrom, type: .remus).outcome()
        }
    }
    private let ends: [OpenFile]

    /// As PrimaryRun and the helper's launcher set the helper up.
    static func hook(_ configuration: inout HelperProcess.Configuration, _ relay: PrimaryRelay) throws {
        configuration.preload.insert(library, at: 0)
        configuration.environment["ROMULUS_ROLE"] = "helper"
        configuration.environment["ROMULUS_LIBRARY"] = library
        configuration.environment["ROMULUS_CONTROL"] = "\(controlNumber)"
        configuration.environment["ROMULUS_LINK"] = "\(linkNumber)"
        configuration.descriptors.append(
            .init(here: try OpenFile(duplicating: relay.controlForHelper.raw), there: controlNumber))
        configuration.descriptors.append(
            .init(here: try OpenFile(duplicating: relay.linkDescriptor), there: linkNumber))
    }

    /// libromulus.so, which the build leaves beside the test bundle; ROMULUS_TEST_LIBRARY overrides.
    static var library: String {
        if let path = ProcessInfo.processInfo.environment["ROMULUS_TEST_LIBRARY"] { return path }
        return URL(fileURLWithPath: HelperProcess.Configuration.simulatedXen).deletingLastPathComponent().path
            + "/libromulus.so"
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

    /// As Ctrl-C in `xl remus`.
    func interrupt() {
        var mark = UInt64(1) << 32
        _ = write(primary.signalEvent, &mark, 8)
    }

    var suspendRequests: [ContinuousClock.Instant] { requests.value }

    struct Ending {
        var saved: HelperProcess.Outcome
        var restored: HelperProcess.Outcome?
        var primary: PrimaryRelay.Outcome
        var backup: BackupRelay.Outcome
    }

    /// Waits until both helpers have ended, then ends the relays as the hooks do.
    func end(farewell: Message = .farewell(.primaryFailed, text: "the test ends")) throws -> Ending {
        let saved = try saver.outcome()
        let primaryOutcome = primary.finish { _ in farewell }
        wire.entry.shutDown()
        let restored = try? restorer.value(within: .seconds(30))
        let backupOutcome = backup.join()
        return Ending(saved: saved, restored: restored, primary: primaryOutcome, backup: backupOutcome)
    }
}

extension OpenFile {
    convenience init(duplicating descriptor: Int32) throws {
        let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw SystemFailure("dup") }
        self.init(adopting: copy)
    }
}
