import RomulusCore

/// What the primary's relay counts of its epochs, and what follows from it: when the next one begins, and what is told of the run.
struct RunAccount {
    private let configuration: PrimaryRelay.Configuration
    private let log: Log
    private(set) var telemetry: RunTelemetry
    var pacer: EpochPacer

    /// - Parameter control: the helper's socket.
    init(_ configuration: PrimaryRelay.Configuration, _ ports: PrimaryRelay.Ports, control: Int32, log: Log) {
        self.configuration = configuration
        self.log = log
        telemetry = RunTelemetry(guest: configuration.session.guest, trace: ports.trace, metrics: ports.metrics)
        pacer = EpochPacer(
            configuration.schedule, control: control, output: ports.output, plugins: ports.plugins, log: log)
    }

    mutating func stagingWasFull() { telemetry.stagingWasFull() }
    mutating func sent(_ size: EpochSize) { telemetry.sent(size) }
    mutating func resumed(_ times: EpochTimes) { telemetry.resumed(times) }

    mutating func committed(_ epoch: Epoch) {
        pacer.committed(epoch, telemetry.committed(epoch))
        telemetry.overran(pacer.overrunCount)
    }

    mutating func isNow(_ state: SessionState, held: HeldOutput) { telemetry.isNow(state, held: held) }
    mutating func close() { telemetry.close() }

    /// - Parameter stagingBytes: the relay's. The native engine has staging of its own, as large as that.
    func status(_ state: SessionState, epoch: Epoch, held: HeldOutput, stagingBytes: Int) -> SessionStatus {
        let pagesKiB = (configuration.pages?.slots ?? 0) * (PageFormat.pageBytes >> 10)
        return SessionStatus(
            guest: configuration.session.guest, side: .primary, state: state, epoch: epoch,
            startedAt: telemetry.statistics.startedAt, lastEvent: log.newestEvent,
            details: telemetry.details(
                schedule: pacer.policy, arbiter: configuration.session.arbiter, held: held)
                + [.init("buffers_kib", .integer(Int64(2 * (stagingBytes >> 10) + pagesKiB)))])
    }
}
