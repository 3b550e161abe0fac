import Glibc
import RomulusCore

/// One CSV line per committed epoch, for people who measure (`epoch_log` in romulus.conf). Times are microseconds.
///
/// Used on the relay's thread only.
public final class EpochTrace {
    private let file: Descriptor
    private var epoch: (times: EpochTimes?, pages: Int, bytes: UInt64, sent: MonotonicTime?) = (nil, 0, 0, nil)

    /// Appends to the file at `path`, which begins with a line of names when it is new.
    public init(path: String) throws(SystemError) {
        let raw = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
        guard raw >= 0 else { throw SystemError("open") }
        file = Descriptor(owning: raw)
        if lseek(raw, 0, SEEK_END) == 0 {
            write("epoch,requested_us,suspend_us,copy_us,resume_us,pause_us,pages,bytes,sent_us,acknowledged_us\n")
        }
    }

    func resumed(_ times: EpochTimes) { epoch.times = times }

    func sent(_ epoch: Epoch, pages: Int, bytes: UInt64, at now: MonotonicTime) {
        self.epoch.pages = pages
        self.epoch.bytes = bytes
        self.epoch.sent = now
    }

    func committed(_ number: Epoch, at now: MonotonicTime) {
        defer { epoch = (nil, 0, 0, nil) }
        guard let times = epoch.times, let sent = epoch.sent else { return }
        let fields: [Int64] = [
            Int64(number.rawValue), times.requested.nanoseconds / 1000,
            (times.suspended - times.requested) / 1000, (times.copied - times.suspended) / 1000,
            (times.resumed - times.copied) / 1000, times.pauseNanoseconds / 1000,
            Int64(epoch.pages), Int64(epoch.bytes),
            (sent - times.resumed) / 1000, (now - times.resumed) / 1000,
        ]
        write(fields.map(String.init).joined(separator: ",") + "\n")
    }

    private func write(_ text: String) {
        let bytes = Array(text.utf8)
        // A full disk must not stop a checkpoint: the line is lost, the run goes on.
        _ = bytes.withUnsafeBytes { Glibc.write(file.raw, $0.baseAddress, $0.count) }
    }
}
