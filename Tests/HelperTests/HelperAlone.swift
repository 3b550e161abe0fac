import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen

/// The hooked helper with nobody but the test at the other end of its control socket and of the link, and a real guard.
final class HelperAlone: Sendable {
    /// What the test plays.
    final class Surroundings: Sendable {
        let source: SimulatedDomain
        private let control: Shared<OpenFile?>
        /// `xl` and its guard hold the only copies of the link's other end.
        private let farEnd: OpenFile
        /// xl's view of it.
        let lease: SharedLease
        let xl: GuardedXl

        fileprivate init(
            _ source: SimulatedDomain, control: OpenFile, farEnd: OpenFile, lease: SharedLease, _ xl: GuardedXl
        ) {
            self.source = source
            self.lease = lease
            self.xl = xl
            self.control = Shared(control)
            self.farEnd = farEnd
        }

        func commit(_ epoch: UInt64) { send(.commit(Epoch(rawValue: epoch), nextStart: .now)) }
        func stop() { send(.stop) }

        private let helper = Shared<HelperProcess.Service?>(nil)
        fileprivate func watch(_ service: HelperProcess.Service) { helper.set(service) }
        func killHelper() { helper.value?.process.kill(SIGKILL) }

        func send(_ order: HelperControl.Order) {
            _ = control.value.map { HelperControl.send(order, on: $0.descriptor) }
        }

        /// Returns when the backup would see the link's end.
        func killXl() throws {
            killXlAtOnce()
            try awaitLinkEnd()
        }

        func killXlAtOnce() {
            xl.die()
            control.set(nil)
        }

        /// The run is over, and nobody is owed anything.
        func endRun() throws {
            xl.end()
            try awaitLinkEnd()
        }

        func awaitLinkEnd() throws {
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
        guardsError: OpenFile? = nil, observe: @escaping @Sendable (HelperMessage) -> Void = { _ in }
    ) throws {
        let pair = try Descriptor.messageSockets()
        let control = try OpenFile(duplicating: pair.one.raw)
        let controlForHelper = try OpenFile(duplicating: pair.other.raw)
        _ = HelperControl.send(
            .begin(.init(stagingBytes: 1 << 20, engine: engine)), on: control.descriptor)
        let (link, farEnd) = try OpenFile.pair()
        let lease = try SharedLease()
        let (helperEnd, mark) = try OpenFile.pair()
        let xl = try GuardedXl(
            of: source, link: link, lease: lease, helperEnd: helperEnd, mark: mark,
            .init(standardError: guardsError))
        let surroundings = Surroundings(source, control: control, farEnd: farEnd, lease: lease, xl)
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
                ProtectedGuest.hook(&$0, control: controlForHelper, lease: file, mark)
            })
        surroundings.watch(saver)
    }

    func outcome() throws -> HelperProcess.Outcome { try saver.outcome() }

    /// What the guard has said by the time when it has ended.
    func guardsWords() throws -> String {
        try surroundings.endRun()
        return surroundings.xl.said
    }
}
