import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen

/// The hooked helper with nobody but the test at the other end of its control socket.
final class HelperAlone: Sendable {
    let source: SimulatedDomain
    let saver: HelperProcess.Service
    private let ours: Shared<OpenFile?>
    private let reached = Shared(-1)

    init(in folder: TemporaryFolder) throws {
        let source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 512, seed: 3)
        self.source = source
        let pair = try Descriptor.messageSockets()
        let ours = try OpenFile(duplicating: pair.one.raw)
        let theirs = try OpenFile(duplicating: pair.other.raw)
        _ = HelperControl.send(.begin(periodNanoseconds: 1_000_000), on: ours.descriptor)
        self.ours = Shared(ours)
        let file = try OpenFile(folder("stream"), O_RDWR | O_CREAT)
        saver = try StockStreams.startRemus(
            source, to: file,
            afterEpoch: { [reached] epoch in
                reached.set(epoch)
                return true
            },
            adjust: {
                $0.preload.insert(ProtectedGuest.library, at: 0)
                $0.environment["ROMULUS_ROLE"] = "helper"
                $0.environment["ROMULUS_LIBRARY"] = ProtectedGuest.library
                $0.environment["ROMULUS_CONTROL"] = "\(ProtectedGuest.controlNumber)"
                $0.descriptors.append(.init(here: theirs, there: ProtectedGuest.controlNumber))
            })
    }

    /// Commits epochs as they come, up to that one, and waits until the helper waits for the next commit.
    func waitForEpoch(commitUpTo last: UInt64) throws {
        let deadline = ContinuousClock.now + .seconds(20)
        var committed: UInt64 = 0
        while true {
            let epoch = UInt64(reached.value + 1)
            if epoch == last + 1 { return }
            if epoch > committed {
                committed = epoch
                _ = ours.value.map { HelperControl.send(.commit(Epoch(rawValue: epoch)), on: $0.descriptor) }
            }
            guard ContinuousClock.now < deadline else { throw HelperTestError.timedOut(waitingFor: "epoch \(last)") }
            usleep(500)
        }
    }

    /// As when `xl` is killed.
    func closeControl() { ours.set(nil) }
}
