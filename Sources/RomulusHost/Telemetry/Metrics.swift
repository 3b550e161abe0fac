import Glibc
import RomulusCore

/// The numbers of a run on the primary.
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
        var text = PrometheusText(guest: guest)
        text.gauge(
            "romulus_protected", "Whether the backup acknowledges the guest's epochs.",
            state == .protected || state == .paused)
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
}

/// The numbers of a run on the backup.
public struct BackupMetrics: Equatable, Sendable {
    let guest: String
    var state = SessionState.copying
    var epoch = Epoch.none
    /// Seconds since 1970.
    var lastEpochTime: Int64 = 0
    /// Since bytes of the primary's last arrived.
    var silenceNanoseconds: Int64 = 0

    var text: String {
        var text = PrometheusText(guest: guest)
        text.gauge(
            "romulus_replica_ready", "Whether the guest would go on here.", state == .protected || state == .deciding)
        text.gauge(
            "romulus_replica_deciding", "Whether the primary is lost and it is being decided.", state == .deciding)
        text.gauge("romulus_last_epoch_timestamp_seconds", "When an epoch was acknowledged last.", "\(lastEpochTime)")
        text.counter("romulus_replica_epoch", "The last epoch that was acknowledged.", epoch.rawValue)
        text.gauge(
            "romulus_replica_silence_seconds", "Since the primary was heard.", "\(Double(silenceNanoseconds) / 1e9)")
        return text.text
    }
}
