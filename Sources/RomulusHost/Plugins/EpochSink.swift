import Glibc
import RomulusCore
import RomulusPlugin
import Synchronization

/// Hands one plugin every complete epoch on the backup, on a thread of the plugin's.
///
/// In the first part, which is as large as the guest, the link waits for it as it does for libxl; after that nobody waits,
/// and it is given up when more waits for it than the limit.
final class EpochSink {
    /// How far it may lag behind while the first part streams through.
    private static let streamingBytes = 8 << 20

    private struct Queue: Sendable {
        var bytes = 0
        var lastTaken = MonotonicTime.now
    }

    /// A callback that was left behind may still come to it.
    private final class SharedQueue: Sendable {
        let value = Mutex(Queue())
        let event: Descriptor

        init() throws(SystemError) { event = try Descriptor.event() }
    }

    private let plugin: Plugin
    private let lane: PluginLane
    private let limitBytes: Int
    private let patienceNanoseconds: Int64
    private let queue: SharedQueue

    init?(_ plugin: Plugin, limitBytes: Int) throws(SystemError) {
        guard let lane = plugin.sinkLane else { return nil }
        self.plugin = plugin
        self.lane = lane
        self.limitBytes = max(limitBytes, 2 * Self.streamingBytes)
        patienceNanoseconds = plugin.timeoutNanoseconds * 10
        queue = try SharedQueue()
    }

    /// Readable when it has taken something.
    var descriptor: Int32 { queue.event.raw }

    /// While the first part streams through, the link waits for as long as this is true.
    var isBehind: Bool { lane.isWorking && queue.value.withLock { $0.bytes >= Self.streamingBytes } }

    /// When the link does not wait any longer.
    var deadline: MonotonicTime? {
        isBehind ? queue.value.withLock { $0.lastTaken } + patienceNanoseconds : nil
    }

    func giveUpIfStuck(now: MonotonicTime) {
        queue.event.drain()
        guard let deadline, now >= deadline else { return }
        lane.leaveBehind("its sink took nothing for \(patienceNanoseconds.inMilliseconds) ms")
    }

    func take(_ bytes: UnsafeRawBufferPointer, of epoch: Epoch, isLast: Bool) {
        guard lane.isWorking else { return }
        let waiting = queue.value.withLock { queue in
            if queue.bytes == 0 { queue.lastTaken = .now }
            queue.bytes += bytes.count
            return queue.bytes
        }
        if waiting > limitBytes {
            lane.leaveBehind(
                "its sink is too slow: \(waiting >> 20) MiB wait for it, and epoch_limit_mib allows \(limitBytes >> 20)"
            )
            return
        }
        let (callback, me) = (plugin.callbacks.sink!, SelfPointer(plugin.callbacks.`self`))
        let copy = Array(bytes)
        _ = lane.post(atMost: .max) { [lane, queue] in
            let result = copy.withUnsafeBytes { copy in
                var piece = romulus_piece(
                    size: UInt32(MemoryLayout<romulus_piece>.size), is_last: isLast ? 1 : 0, epoch: epoch.rawValue,
                    bytes: copy.baseAddress, length: copy.count)
                return callback(me.raw, &piece)
            }
            queue.value.withLock { queue in
                queue.bytes -= copy.count
                queue.lastTaken = .now
            }
            queue.event.signal()
            if result != 0 { lane.failed("its sink") }
        }
    }
}

/// The sinks of all plugins. Used on the relay's thread only.
public struct EpochSinks {
    private let sinks: [EpochSink]

    public init() { sinks = [] }

    /// - Parameter limitBytes: the most that may wait for each of them.
    public init(_ set: PluginSet, limitBytes: Int) throws(SystemError) {
        var sinks: [EpochSink] = []
        for plugin in set.plugins {
            if let sink = try EpochSink(plugin, limitBytes: limitBytes) { sinks.append(sink) }
        }
        self.sinks = sinks
    }

    var isEmpty: Bool { sinks.isEmpty }
    /// The first part waits for the slowest.
    var isBehind: Bool { sinks.contains(where: \.isBehind) }
    /// When `giveUpWhoIsStuck` has something to do.
    var deadline: MonotonicTime? { sinks.compactMap(\.deadline).min() }

    func add(to polls: inout PollSet) {
        for sink in sinks { polls.add(sink.descriptor, reading: true) }
    }

    func giveUpWhoIsStuck() {
        for sink in sinks { sink.giveUpIfStuck(now: .now) }
    }

    /// A piece of what comes before the first epoch's end.
    func streamed(_ piece: UnsafeRawBufferPointer) {
        for sink in sinks { sink.take(piece, of: Epoch.none.next, isLast: false) }
    }

    /// The epoch is complete, and counts.
    ///
    /// - Parameter bytes: of the first, which has been streamed, none are looked at.
    func completed(_ epoch: Epoch, _ bytes: UnsafeRawBufferPointer?) {
        let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
        for sink in sinks { sink.take(epoch == Epoch.none.next ? nothing : bytes ?? nothing, of: epoch, isLast: true) }
    }
}
