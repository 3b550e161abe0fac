import Foundation
import SimulatedXen
import Synchronization

/// What `xl` does around the helper, with stock parts only: the streams that the tests compare against.
enum StockStreams {
    /// Numbers that the descriptors have in the helper.
    static let stream: Int32 = 20
    static let backChannel: Int32 = 21
    /// XCFLAGS_LIVE.
    static let live: UInt32 = 1

    /// `xl save` or `xl migrate`: the whole libxl stream, END included.
    static func savePlain(
        _ domain: SimulatedDomain, to stream: OpenFile, flags: UInt32 = 0,
        adjust: (inout HelperProcess.Configuration) -> Void = { _ in }
    ) throws -> HelperProcess.Outcome {
        try LibxlStream.writeStart(to: stream.descriptor)
        var callbacks = HelperProcess.Callbacks()
        callbacks.suspend = {
            try domain.suspend()
            return 1
        }
        let helper = try saver(of: domain, to: stream, flags: flags, type: .plain, adjust: adjust)
        let outcome = try helper.serve(callbacks)
        if outcome.result == 0 { try LibxlStream.write(.end, to: stream.descriptor) }
        return outcome
    }

    /// `xl remus`: after each epoch CHECKPOINT_END and then `afterEpoch`, which ends the run by returning false.
    /// `suspends` is false where libxl gives up on the guest. `whileSuspended` is where a test dirties pages by hand or keeps a copy of the epoch.
    static func startRemus(
        _ domain: SimulatedDomain, to stream: OpenFile,
        suspends: @escaping @Sendable () throws -> Bool = { true },
        whileSuspended: @escaping @Sendable (_ epoch: Int) throws -> Void = { _ in },
        whileResumed: @escaping @Sendable () -> Void = {},
        afterEpoch: @escaping @Sendable (_ epoch: Int) throws -> Bool,
        observe: @escaping @Sendable (HelperMessage) -> Void = { _ in },
        adjust: (inout HelperProcess.Configuration) -> Void = { _ in }
    ) throws -> HelperProcess.Service {
        try LibxlStream.writeStart(to: stream.descriptor)
        let epoch = EpochCounter()
        var callbacks = HelperProcess.Callbacks()
        callbacks.observe = observe
        callbacks.suspend = {
            // libxl gives a paused guest a minute, and one that has crashed no time.
            guard try suspends(), !domain.isPaused, !domain.hasCrashed else { return 0 }
            try domain.suspend()
            try whileSuspended(epoch.current)
            return 1
        }
        callbacks.postcopy = {
            domain.resume()
            whileResumed()
            return 1
        }
        callbacks.checkpoint = {
            do {
                try LibxlStream.write(.checkpointEnd, to: stream.descriptor)
            } catch let failure as SystemFailure where failure.errorNumber == EPIPE {
                return 0  // as libxl when its stream has been closed
            }
            return try afterEpoch(epoch.advance()) ? 1 : 0
        }
        return try saver(of: domain, to: stream, flags: live, type: .remus, adjust: adjust).start(callbacks)
    }

    /// `xl migrate-receive`, `-r` for Remus: libxl's start is read here, the rest by the helper and the callbacks.
    static func startRestore(
        into domain: SimulatedDomain, from stream: OpenFile, type: HelperProcess.StreamType,
        adjust: (inout HelperProcess.Configuration) -> Void = { _ in }
    ) throws -> HelperProcess.Service {
        try LibxlStream.readStart(from: stream.descriptor)
        var configuration = HelperProcess.Configuration(domain: domain)
        let null = try OpenFile("/dev/null", O_WRONLY)
        configuration.descriptors = [
            .init(here: stream, there: Self.stream), .init(here: null, there: backChannel),
        ]
        adjust(&configuration)
        var callbacks = HelperProcess.Callbacks()
        callbacks.checkpoint = {
            do {
                return try LibxlStream.readThroughCheckpointEnd(from: stream.descriptor) ? 1 : 0
            } catch HelperTestError.endOfStream {
                return 2
            }
        }
        let work = HelperProcess.Work.restore(
            stream: Self.stream, backChannel: backChannel, domid: domain.domid, type: type)
        return try HelperProcess(configuration, work).start(callbacks)
    }

    private static func saver(
        of domain: SimulatedDomain, to stream: OpenFile, flags: UInt32, type: HelperProcess.StreamType,
        adjust: (inout HelperProcess.Configuration) -> Void
    ) throws -> HelperProcess {
        var configuration = HelperProcess.Configuration(domain: domain)
        let null = try OpenFile("/dev/null", O_RDONLY)
        configuration.descriptors = [
            .init(here: stream, there: Self.stream), .init(here: null, there: backChannel),
        ]
        adjust(&configuration)
        let work = HelperProcess.Work.save(
            stream: Self.stream, backChannel: backChannel, domid: domain.domid, flags: flags, type: type)
        return try HelperProcess(configuration, work)
    }
}

/// The epoch that is being saved, from 0.
private final class EpochCounter: Sendable {
    private let epoch = Mutex(0)

    var current: Int { epoch.withLock { $0 } }

    /// The epoch that has ended.
    func advance() -> Int {
        epoch.withLock { epoch in
            epoch += 1
            return epoch - 1
        }
    }
}
