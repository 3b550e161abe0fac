import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen

/// The hooked helper with nobody but the test at the other end of its control socket and of the link.
final class HelperAlone: Sendable {
    /// What the test plays.
    final class Surroundings: Sendable {
        let source: SimulatedDomain
        private let control: Shared<OpenFile?>
        /// The helper holds the only copy of the link's other end.
        private let farEnd: OpenFile
        /// xl's view of it.
        let lease: SharedLease

        fileprivate init(_ source: SimulatedDomain, control: OpenFile, farEnd: OpenFile, lease: SharedLease) {
            self.source = source
            self.lease = lease
            self.control = Shared(control)
            self.farEnd = farEnd
        }

        func commit(_ epoch: UInt64) { send(.commit(Epoch(rawValue: epoch), nextStart: .now)) }
        func stop() { send(.stop) }

        func send(_ order: HelperControl.Order) {
            _ = control.value.map { HelperControl.send(order, on: $0.descriptor) }
        }

        /// As when `xl` is killed; returns when the backup would see the link's end.
        func killXl() throws {
            control.set(nil)
            do {
                _ = try BoundedIO.read(1, from: farEnd.descriptor, deadline: .now + .seconds(20))
            } catch HelperTestError.endOfStream {}
        }
    }

    /// Where libxl's callbacks are; epochs count from 1.
    struct Steps: Sendable {
        typealias Step = @Sendable (_ surroundings: Surroundings, _ epoch: UInt64) throws -> Void
        /// Where libxl has given its order; false if it gives up on the guest.
        var suspends: @Sendable (Surroundings) throws -> Bool = { _ in true }
        var whileSuspended: Step = { _, _ in }
        /// Before libxl answers the checkpoint callback.
        var afterCheckpoint: Step = { $0.commit($1) }
    }

    let surroundings: Surroundings
    private let saver: HelperProcess.Service

    convenience init(in folder: TemporaryFolder, engine: Engine = .stock, pages: Int = 512, _ steps: Steps) throws {
        try self.init(
            saving: SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: pages, seed: 3), in: folder,
            engine: engine, steps)
    }

    init(
        saving source: SimulatedDomain, in folder: TemporaryFolder, engine: Engine = .stock, _ steps: Steps,
        standardError: OpenFile? = nil, observe: @escaping @Sendable (HelperMessage) -> Void = { _ in }
    ) throws {
        let pair = try Descriptor.messageSockets()
        let control = try OpenFile(duplicating: pair.one.raw)
        let controlForHelper = try OpenFile(duplicating: pair.other.raw)
        _ = HelperControl.send(
            .begin(.init(stagingBytes: 1 << 20, engine: engine)), on: control.descriptor)
        let (link, farEnd) = try OpenFile.pair()
        let lease = try SharedLease()
        let surroundings = Surroundings(source, control: control, farEnd: farEnd, lease: lease)
        self.surroundings = surroundings
        let file = try OpenFile(folder("stream"), O_RDWR | O_CREAT)
        saver = try StockStreams.startRemus(
            source, to: file, suspends: { try steps.suspends(surroundings) },
            whileSuspended: { epoch in
                surroundings.send(.outputHeld(Epoch(rawValue: UInt64(epoch) + 1)))
                try steps.whileSuspended(surroundings, UInt64(epoch) + 1)
            },
            afterEpoch: { epoch in
                try steps.afterCheckpoint(surroundings, UInt64(epoch) + 1)
                return true
            },
            observe: observe,
            adjust: {
                guard let file = try? OpenFile(duplicating: lease.descriptor) else { return }
                $0.standardError = standardError
                ProtectedGuest.hook(&$0, control: controlForHelper, link: link, lease: file)
            })
    }

    func outcome() throws -> HelperProcess.Outcome { try saver.outcome() }
}
