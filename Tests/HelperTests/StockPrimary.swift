import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

/// Stock Remus, as Debian has it, whose backup runs Romulus.
final class StockPrimary: Sendable {
    let source: SimulatedDomain
    let target: SimulatedDomain
    let tap: StreamTap
    private let folder: TemporaryFolder
    private let copies = EpochCopies()
    private let link: OpenFile
    private let ends: [OpenFile]
    private let receiver: Background<(HelperProcess.Outcome?, BackupRelay.Outcome)>
    private let saver = Shared<HelperProcess.Service?>(nil)
    private let mayEnd = DispatchSemaphore(value: 0)

    init(
        in folder: TemporaryFolder, detectTimeoutMilliseconds: Int = 1000, patienceMilliseconds: Int = 10_000
    ) throws {
        self.folder = folder
        source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 1024, seed: 8)
        let target = try SimulatedDomain(emptyAt: folder("target"), domid: 9, pageCount: 1024)
        self.target = target
        let (link, received) = try OpenFile.pair()
        let (back, silent) = try OpenFile.pair()
        self.link = link
        ends = [received, back, silent]
        let relay = try BackupRelay(
            link: received.descriptor, back: back.descriptor,
            configuration: .init(
                guest: "test",
                session: .init(
                    detectTimeoutMilliseconds: detectTimeoutMilliseconds,
                    patienceNanoseconds: .nanoseconds(milliseconds: patienceMilliseconds), arbiter: .none),
                epochLimitBytes: 8 << 20), ports: .init(), log: Log(guest: "test"))
        try relay.start()
        let tap = try StreamTap(from: try OpenFile(duplicating: relay.streamForLibxl.raw))
        self.tap = tap
        receiver = Background {
            let restored =
                relay.waitForStream()
                ? try StockStreams.startRestore(into: target, from: tap.exit, type: .remus).outcome() : nil
            return (restored, relay.join(isRestored: restored?.result == 0))
        }
    }

    deinit { mayEnd.signal() }

    /// Starts the run and waits until so many epochs have been sent; then it stands still, with its link open.
    func send(epochs: Int) throws {
        let sent = DispatchSemaphore(value: 0)
        let service = try StockStreams.startRemus(
            source, to: link,
            whileSuspended: { [source, folder, copies] epoch in
                copies.keep(try source.copy(to: folder("epoch\(epoch)")), epoch)
            },
            afterEpoch: { [source, mayEnd] epoch in
                var generator = SeededGenerator(seed: UInt64(epoch))
                source.dirty(40, using: &generator)
                guard epoch + 1 == epochs else { return true }
                sent.signal()
                _ = mayEnd.wait(timeout: .now() + 60)
                return false
            })
        saver.set(service)
        guard sent.wait(timeout: .now() + 20) == .success else {
            throw HelperTestError.timedOut(waitingFor: "\(epochs) stock epochs")
        }
    }

    func hangUp() { link.shutDown() }

    /// What the backup came to.
    func received() throws -> (HelperProcess.Outcome?, BackupRelay.Outcome) {
        let result = try receiver.value(within: .seconds(30))
        mayEnd.signal()
        _ = try saver.value?.outcome()
        return result
    }

    func expectReplica(_ restored: HelperProcess.Outcome?, _ backup: BackupRelay.Outcome, epoch: Int) throws {
        let restored = try #require(restored)
        #expect(restored.result == 0, "\(restored.story)")
        #expect(backup.lastEpoch.rawValue == UInt64(epoch))
        #expect(target.differingPages(from: try #require(copies[epoch - 1])) == [])
        let ends = StockWalk.epochEnds(tap.bytes)
        #expect(ends.count == epoch && ends.last == tap.bytes.count, "libxl saw a part of an epoch")
    }
}
