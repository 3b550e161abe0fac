import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen

/// A Romulus primary whose backup is stock, or nobody at all.
final class StockBackup {
    let source: SimulatedDomain
    let copies = EpochCopies()
    let relay: PrimaryRelay
    private let folder: TemporaryFolder

    /// - Parameter back: -1 as with `xl remus -b`.
    init(
        in folder: TemporaryFolder, link: Int32, back: Int32, isUnsafeAccepted: Bool = true, engine: Engine = .native,
        leave: @escaping @Sendable () -> PrimarySession.GuestLeave? = { nil }
    ) throws {
        self.folder = folder
        source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 1024, seed: 5)
        relay = try PrimaryRelay(
            link: link, back: back,
            configuration: .init(
                session: .init(
                    guest: "stock", patienceNanoseconds: 10_000_000_000, hasBackChannel: back >= 0, arbiter: .none,
                    isUnsafeAccepted: isUnsafeAccepted),
                run: 1,
                helper: .init(stagingBytes: 1 << 20, engine: engine),
                schedule: .fixed(periodNanoseconds: 1_000_000)),
            ports: .init(guest: Freezer(of: source).port(leave: leave)), log: Log(guest: "stock"))
        try relay.start()
    }

    /// The helper under the hook, on the relay. `afterEpoch` ends the run by returning false.
    func start(afterEpoch: @escaping @Sendable (Int) -> Bool) throws -> HelperProcess.Service {
        try Self.startSaver(
            source, to: try OpenFile(duplicating: relay.streamForLibxl.raw), folder, copies, afterEpoch: afterEpoch,
            adjust: { try? ProtectedGuest.hook(&$0, relay) })
    }

    /// A run whose guest does the same every time.
    static func startSaver(
        _ source: SimulatedDomain, to stream: OpenFile, _ folder: TemporaryFolder, _ copies: EpochCopies,
        afterEpoch: @escaping @Sendable (Int) -> Bool,
        adjust: (inout HelperProcess.Configuration) -> Void = { _ in }
    ) throws -> HelperProcess.Service {
        try StockStreams.startRemus(
            source, to: stream,
            whileSuspended: { epoch in copies.keep(try source.copy(to: folder("epoch\(epoch)")), epoch) },
            afterEpoch: { epoch in
                var generator = SeededGenerator(seed: UInt64(epoch))
                source.dirty(50, using: &generator)
                return afterEpoch(epoch)
            }, adjust: adjust)
    }
}
