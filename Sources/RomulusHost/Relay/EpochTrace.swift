import Glibc
import RomulusCore

/// One CSV line per committed epoch, for people who measure (`epoch_log` in romulus.conf). Times are microseconds.
///
/// Used on the relay's thread only.
public final class EpochTrace {
    private let file: Descriptor
    private var times: EpochTimes?
    private var sent: (size: EpochSize, at: MonotonicTime)?

    /// Appends to the file at `path`, which begins with a line of names when it is new.
    public init(path: String) throws(SystemError) {
        let raw = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
        guard raw >= 0 else { throw SystemError("open") }
        file = Descriptor(owning: raw)
        if lseek(raw, 0, SEEK_END) == 0 {
            let parts = EpochTimes.partNames.map { "\($0)_us," }.joined()
            write("epoch,requested_us,\(parts)pause_us,pages,bytes,link_bytes,sent_us,acknowledged_us\n")
        }
    }

    func resumed(_ times: EpochTimes) { self.times = times }

    func sent(_ size: EpochSize, at now: MonotonicTime) { sent = (size, now) }

    func committed(_ number: Epoch, at now: MonotonicTime) {
        defer { (times, sent) = (nil, nil) }
        guard let times, let sent else { return }
        var fields: [Int64] = [Int64(number.rawValue), times.requested.nanoseconds / 1000]
        fields += times.parts.map { $0 / 1000 }
        fields += [
            times.pauseNanoseconds / 1000, Int64(sent.size.pages), Int64(sent.size.streamBytes),
            Int64(sent.size.linkBytes), (sent.at - times.resumed) / 1000, (now - times.resumed) / 1000,
        ]
        write(fields.map(String.init).joined(separator: ",") + "\n")
    }

    private func write(_ text: String) {
        let bytes = Array(text.utf8)
        // A full disk must not stop a checkpoint: the line is lost, the run goes on.
        _ = bytes.withUnsafeBytes { Glibc.write(file.raw, $0.baseAddress, $0.count) }
    }
}
