import Glibc
import RomulusCore

/// What is told of a run on the backup, while it goes on and afterwards.
struct ReplicaAccount {
    private let configuration: BackupRelay.Configuration
    private let log: Log
    private let file: MetricsFile?
    private let startedAt = MonotonicTime.now
    private(set) var lastHeardAt = MonotonicTime.now
    private var metrics: BackupMetrics

    init(_ configuration: BackupRelay.Configuration, metrics file: MetricsFile?, log: Log) {
        self.configuration = configuration
        self.log = log
        self.file = file
        metrics = BackupMetrics(guest: configuration.guest)
    }

    mutating func heard(at now: MonotonicTime) { lastHeardAt = now }

    mutating func isNow(_ state: SessionState, epoch: Epoch) {
        if epoch != metrics.epoch { metrics.lastEpochTime = Int64(time(nil)) }
        metrics.epoch = epoch
        metrics.state = state
        file?.update { [metrics, lastHeardAt] in
            var metrics = metrics
            metrics.silenceNanoseconds = .now - lastHeardAt
            return metrics.text
        }
    }

    func close() { file?.close() }

    /// - Parameter epochBytes: the epochs' memory.
    func status(_ state: SessionState, epoch: Epoch, epochBytes: Int) -> SessionStatus {
        SessionStatus(
            guest: configuration.guest, side: .backup, state: state, epoch: epoch, startedAt: startedAt,
            lastEvent: log.newestEvent,
            details: [
                .init("arbiter", .string("\(configuration.session.arbiter)")),
                .init("buffers_kib", .integer(Int64((epochBytes >> 10) + configuration.session.pageSlots * 4))),
                .init("silence_ms", .milliseconds(.now - lastHeardAt)),
            ])
    }
}
