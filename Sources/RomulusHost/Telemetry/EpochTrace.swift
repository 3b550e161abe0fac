import Glibc
import RomulusCore

/// One CSV line per committed epoch, for people who measure (`epoch_log` in romulus.conf). Times are microseconds.
///
/// Its lines are written by a thread of its own, because a disk may take its time; one that is behind for too long leaves some
/// out, which their numbers show.
public final class EpochTrace: Sendable {
    private let file: Descriptor
    /// As a field: several guests may write to one file.
    private let guest: String
    private let scribe: Scribe

    /// Appends to the file at `path`, which begins with a line of names when it is new.
    public init(path: String, guest: String) throws(SystemError) {
        scribe = try Scribe(name: "romulus-epochs")
        let raw = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
        guard raw >= 0 else { throw SystemError("open") }
        file = Descriptor(owning: raw)
        self.guest = Self.field(guest)
        if lseek(raw, 0, SEEK_END) == 0 {
            let parts = EpochTimes.partNames.map { "\($0)_us," }.joined()
            write("epoch,requested_us,\(parts)pause_us,pages,bytes,link_bytes,sent_us,acknowledged_us,guest\n")
        }
    }

    func add(_ epoch: CompletedEpoch) {
        let times = epoch.times
        var fields: [Int64] = [Int64(epoch.number.rawValue), times.requested.nanoseconds / 1000]
        fields += times.parts.map { $0 / 1000 }
        fields += [
            times.pauseNanoseconds / 1000, Int64(epoch.size.pages), Int64(epoch.size.streamBytes),
            Int64(epoch.size.linkBytes), (epoch.sentAt - times.resumed) / 1000, epoch.acknowledgeNanoseconds / 1000,
        ]
        let line = fields.map(String.init).joined(separator: ",") + ",\(guest)\n"
        scribe.take { [self] in write(line) }
    }

    /// At the end: what is on its way, as far as it is written in time.
    func drain() { scribe.drain(until: .now + .nanoseconds(milliseconds: 1000)) }

    /// In quotes where it has to be (RFC 4180).
    private static func field(_ text: String) -> String {
        let clean = Log.cleaned(text)
        guard clean.contains(",") || clean.contains("\"") else { return clean }
        return "\"" + clean.map { $0 == "\"" ? "\"\"" : String($0) }.joined() + "\""
    }

    private func write(_ text: String) {
        let bytes = Array(text.utf8)
        // A full disk must not stop a checkpoint: the line is lost, the run goes on.
        _ = bytes.withUnsafeBytes { Glibc.write(file.raw, $0.baseAddress, $0.count) }
    }
}
