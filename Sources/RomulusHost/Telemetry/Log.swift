import CLinux
import Glibc
import RomulusCore
import Synchronization

/// Lines for the admin: to standard error, where xl's own messages go, to the system's log, and to the file of events.
///
/// On the backup, standard error is an ssh connection that a power cut takes away; there the logs are what stays.
public struct Log: Sendable {
    private let guest: String
    private let speaker: String
    private let outlets: [Outlet]
    private let newest = Newest()

    private final class Newest: Sendable {
        let event = Mutex<Event?>(nil)
    }

    /// - Parameters:
    ///   - guest: the guest's name; empty where there is none yet.
    ///   - role: what a reader is to know of who speaks, as in "backup".
    ///   - terminal: standard error.
    ///   - isAside: whether threads of its own write the lines, so that nobody who speaks waits for a terminal that is stopped, a
    ///     system's log that is full, or a lock on the file: one for each, since one that is stuck is not to silence the others.
    public init(
        guest: String, role: String = "", events: EventFile? = nil, terminal: Int32 = 2, isAside: Bool = false
    ) {
        let guest = Self.cleaned(guest)
        let speaker = role.isEmpty ? guest : "\(guest) (\(role))"
        self.guest = guest
        self.speaker = speaker
        var places: [Outlet.Place] = [.terminal(terminal), .systemLog]
        if let events { places.append(.events(events)) }
        outlets = places.map { place in
            Outlet(place, isAside: isAside) { lost in
                Line(
                    .warning,
                    "\(lost) lines are left out here, because nobody took them for too long: look for them in the other"
                        + " logs (romulus events, the system's log)", guest: guest, speaker: speaker)
            }
        }
    }

    /// What was said last.
    public var newestEvent: Event? { newest.event.withLock { $0 } }

    public func note(_ text: String) { write(.note, text) }
    public func warning(_ text: String) { write(.warning, text) }
    public func error(_ text: String) { write(.error, text) }

    public func write(_ line: LogLine) {
        switch line {
        case .note(let text): note(text)
        case .warning(let text): warning(text)
        case .error(let text): error(text)
        }
    }

    private func write(_ level: Event.Level, _ text: String) {
        let line = Line(level, text, guest: guest, speaker: speaker)
        newest.event.withLock { $0 = line.event }
        for outlet in outlets { outlet.take(line) }
    }

    /// At the end: waits for lines that are on their way, and not for ever.
    public func drain(milliseconds: Int = 1000) {
        let deadline = MonotonicTime.now + .nanoseconds(milliseconds: milliseconds)
        for outlet in outlets { outlet.drain(until: deadline) }
    }

    /// Without what moves a terminal's cursor or ends a line.
    static func cleaned(_ text: String) -> String {
        String(text.unicodeScalars.map { $0.value < 0x20 || (0x7F..<0xA0).contains($0.value) ? " " : Character($0) })
    }
}

/// A line as it is shown, and as it is kept.
private struct Line {
    let shown: String
    let event: Event

    init(_ level: Event.Level, _ text: String, guest: String, speaker: String) {
        // A line is a line, whatever the other side put into a farewell.
        let clean = Log.cleaned(text)
        let prefix = speaker.isEmpty ? "romulus: " : "romulus: \(speaker): "
        shown = prefix + (level == .note ? "" : "\(level.rawValue): ") + clean
        event = Event(time: Int64(time(nil)), guest: guest, level: level, text: clean)
    }
}

/// One of the places that every line goes to.
private struct Outlet: Sendable {
    enum Place {
        case terminal(Int32)
        case systemLog
        case events(EventFile)

        /// May wait for as long as whoever reads does not.
        func put(_ line: Line) {
            switch self {
            case .terminal(let raw):
                let bytes = Array("\(line.shown)\n".utf8)
                // One write per line, so that lines of several processes do not mix. Nobody may be listening any more.
                _ = bytes.withUnsafeBytes { Glibc.write(raw, $0.baseAddress, $0.count) }
            case .systemLog:
                // LOG_DAEMON is 3 << 3; the macro has a cast
                romulus_syslog(Self.priority(line.event.level) | (3 << 3), line.shown)
            case .events(let file):
                file.append(line.event)
            }
        }

        private static func priority(_ level: Event.Level) -> Int32 {
            switch level {
            case .note: LOG_INFO
            case .warning: LOG_WARNING
            case .error: LOG_ERR
            }
        }
    }

    private let place: Place
    private let scribe: Scribe?

    init(_ place: Place, isAside: Bool, lossLine: @escaping @Sendable (Int) -> Line) {
        self.place = place
        // Without a thread whoever speaks waits, as before there were any.
        scribe = isAside ? try? Scribe(name: "romulus-log") { place.put(lossLine($0)) } : nil
    }

    func take(_ line: Line) {
        guard let scribe else { return place.put(line) }
        scribe.take { [place] in place.put(line) }
    }

    func drain(until deadline: MonotonicTime) { scribe?.drain(until: deadline) }
}
