import Glibc
import RomulusCore
import Synchronization

/// A run's numbers in Prometheus's text format, version 0.0.4; names and units by its conventions.
public struct Metrics: Equatable, Sendable {
    let guest: String
    var state = SessionState.copying
    var periodNanoseconds: Int64 = 0
    var held = HeldOutput()
    /// Seconds since 1970.
    var lastEpochTime: Int64 = 0
    private var epochs: UInt64 = 0
    private var pages: UInt64 = 0
    private var streamBytes: UInt64 = 0
    private var linkBytes: UInt64 = 0
    private var pause = Histogram.seconds
    private var acknowledge = Histogram.seconds
    private var epochBytes = Histogram.bytes

    init(guest: String) { self.guest = guest }

    mutating func add(_ epoch: CompletedEpoch) {
        epochs += 1
        pages += UInt64(epoch.size.pages)
        streamBytes += epoch.size.streamBytes
        linkBytes += epoch.size.linkBytes
        pause.add(Double(epoch.times.pauseNanoseconds) / 1e9)
        acknowledge.add(Double(epoch.acknowledgeNanoseconds) / 1e9)
        epochBytes.add(Double(epoch.size.linkBytes))
        lastEpochTime = Int64(time(nil))
    }

    var text: String {
        var text = Text(label: "guest=\"\(Self.escaped(guest))\"")
        text.gauge("romulus_protected", "Whether the backup acknowledges the guest's epochs.", state == .protected)
        text.gauge("romulus_frozen", "Whether the guest stands still until it is decided.", state == .frozen)
        text.gauge(
            "romulus_period_seconds", "From the last epoch's beginning to the next one's.", seconds(periodNanoseconds))
        text.gauge("romulus_last_epoch_timestamp_seconds", "When an epoch was committed last.", "\(lastEpochTime)")
        text.gauge("romulus_held_packets", "Packets of the guest that wait for their epoch.", "\(held.packets)")
        text.gauge("romulus_held_bytes", "Bytes of these packets.", "\(held.bytes)")
        text.counter(
            "romulus_dropped_packets_total", "Packets for which the network buffer had no room.", held.droppedPackets)
        text.counter("romulus_epochs_total", "Committed epochs.", epochs)
        text.counter("romulus_pages_total", "Pages in committed epochs.", pages)
        text.counter("romulus_stream_bytes_total", "Bytes of the stock stream in committed epochs.", streamBytes)
        text.counter("romulus_link_bytes_total", "What of them, encoded, went over the link.", linkBytes)
        text.histogram("romulus_pause_seconds", "How long the guest was suspended for an epoch.", pause)
        text.histogram(
            "romulus_acknowledge_seconds", "From the guest's resuming to the backup's acknowledgement.", acknowledge)
        text.histogram("romulus_epoch_bytes", "An epoch's bytes on the link.", epochBytes)
        return text.text
    }

    private func seconds(_ nanoseconds: Int64) -> String { "\(Double(nanoseconds) / 1e9)" }

    private static func escaped(_ label: String) -> String {
        label.map { $0 == "\\" ? "\\\\" : $0 == "\"" ? "\\\"" : $0 == "\n" ? "\\n" : String($0) }.joined()
    }

    private struct Text {
        let label: String
        var text = ""

        private mutating func head(_ name: String, _ help: String, _ kind: String) {
            text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind)\n"
        }

        mutating func gauge(_ name: String, _ help: String, _ value: String) {
            head(name, help, "gauge")
            text += "\(name){\(label)} \(value)\n"
        }

        mutating func gauge(_ name: String, _ help: String, _ value: Bool) { gauge(name, help, value ? "1" : "0") }

        mutating func counter(_ name: String, _ help: String, _ value: some BinaryInteger) {
            head(name, help, "counter")
            text += "\(name){\(label)} \(value)\n"
        }

        mutating func histogram(_ name: String, _ help: String, _ histogram: Histogram) {
            head(name, help, "histogram")
            var below: UInt64 = 0
            for (bound, count) in zip(histogram.bounds.map { "\($0)" } + ["+Inf"], histogram.counts) {
                below += count
                text += "\(name)_bucket{\(label),le=\"\(bound)\"} \(below)\n"
            }
            text += "\(name)_sum{\(label)} \(histogram.sum)\n\(name)_count{\(label)} \(below)\n"
        }
    }
}

/// Keeps a file of metrics up to date while a run lasts, from a thread of its own: a slow disk is not to hold a checkpoint up.
public final class MetricsFile {
    private static let intervalNanoseconds: Int64 = 5_000_000_000

    private let path: String
    private let wakeUp: Descriptor
    private let shared: Shared
    private let thread: Thread

    private final class Shared: Sendable {
        let newest = Mutex<Metrics?>(nil)
        let isClosed = Atomic(false)
    }

    /// - Parameter directory: node_exporter's `--collector.textfile.directory`.
    public init(directory: String, guest: String, log: Log) throws(SystemError) {
        Self.remove(directory: directory, guest: guest)
        path = Self.path(directory, guest)
        wakeUp = try Descriptor.event()
        let (path, raw, shared) = (path, wakeUp.raw, Shared())
        self.shared = shared
        thread = try Thread(name: "romulus-metrics") {
            var hasComplained = false
            var polls = PollSet()
            while true {
                let isLast = shared.isClosed.load(ordering: .acquiring)
                let metrics = shared.newest.withLock { $0 }
                if let metrics, !FileContents.replace(with: Array(metrics.text.utf8), at: path, mode: 0o644),
                    !hasComplained
                {
                    hasComplained = true
                    log.warning(
                        "metrics cannot be written to \(path) (\(String(cString: strerror(errno)))): make the directory"
                            + " that metrics_directory in /etc/xen/romulus.conf names; protection goes on without")
                }
                if isLast {
                    unlink(path)
                    return
                }
                polls.reset()
                polls.add(raw, reading: true)
                polls.wait(until: .now + MetricsFile.intervalNanoseconds)
            }
        }
    }

    /// What a run left behind that was killed, or whose host died, would go on claiming that the guest is protected.
    public static func remove(directory: String, guest: String) { unlink(path(directory, guest)) }

    private static func path(_ directory: String, _ guest: String) -> String {
        "\(directory)/romulus-\(RunLock.fileName(guest)).prom"
    }

    func update(_ metrics: Metrics) { shared.newest.withLock { $0 = metrics } }

    /// The file is gone.
    func close() {
        shared.isClosed.store(true, ordering: .releasing)
        wakeUp.signal()
        thread.join()
    }
}
