import Glibc

/// One line of Romulus's, with its moment.
public struct Event: Equatable, Sendable {
    public enum Level: String, Sendable, CaseIterable {
        case note
        case warning
        case error
    }

    /// Seconds since 1970, by the host's clock.
    public var time: Int64
    public var guest: String
    public var level: Level
    public var text: String

    public init(time: Int64, guest: String, level: Level, text: String) {
        self.time = time
        self.guest = guest
        self.level = level
        self.text = text
    }

    public var json: JSON {
        .object([
            .init("time", .integer(time)), .init("guest", .string(guest)), .init("level", .string(level.rawValue)),
            .init("text", .string(text)),
        ])
    }

    public init?(_ json: JSON) {
        guard case .integer(let time)? = json["time"], let guest = json["guest"]?.text,
            let level = json["level"]?.text.flatMap(Level.init(rawValue:)), let text = json["text"]?.text
        else { return nil }
        self.init(time: time, guest: guest, level: level, text: text)
    }
}

/// The host's file of events: one object of JSON per line, the oldest first. When it is full its older half goes.
public struct EventFile: Sendable {
    public static let standard = EventFile(path: "/var/log/xen/romulus-events.json", limitBytes: 1 << 20)

    let path: String
    let limitBytes: Int

    public init(path: String, limitBytes: Int) {
        self.path = path
        self.limitBytes = limitBytes
    }

    /// Whatever fails here, the line has gone to the system's log as well.
    func append(_ event: Event) {
        guard var file = locked() else { return }
        let line = Array((event.json.encoded() + "\n").utf8)
        var about = stat()
        if fstat(file.raw, &about) == 0, Int(about.st_size) + line.count > limitBytes {
            halve()
            // Another file bears the name now.
            guard let newer = locked() else { return }
            file = newer
        }
        _ = line.withUnsafeBytes { Glibc.write(file.raw, $0.baseAddress, $0.count) }
    }

    /// The newer half under the same name, atomically. The caller holds the old file's lock.
    private func halve() {
        let lines = Self.lines(of: path, limitBytes: 2 * limitBytes)
        let kept = lines.dropFirst(lines.count / 2).map { $0 + "\n" }.joined()
        FileContents.replace(with: Array(kept.utf8), at: path, mode: 0o640)
    }

    /// The file that has the name once its lock is held; another process may have replaced it meanwhile.
    private func locked() -> Descriptor? {
        for _ in 0..<8 {
            let raw = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o640)
            guard raw >= 0 else { return nil }
            let file = Descriptor(owning: raw)
            var mine = stat()
            var named = stat()
            guard flock(raw, LOCK_EX) == 0, fstat(raw, &mine) == 0 else { return nil }
            if stat(path, &named) == 0, named.st_ino == mine.st_ino { return file }
        }
        return nil
    }

    /// What is in the file; lines that are damaged are left out.
    ///
    /// - Returns: nil where there is no file to read.
    public func events() -> [Event]? {
        guard access(path, R_OK) == 0 else { return nil }
        return Self.lines(of: path, limitBytes: 2 * limitBytes).compactMap {
            JSON(parsing: String($0)).flatMap(Event.init)
        }
    }

    private static func lines(of path: String, limitBytes: Int) -> [Substring] {
        guard let bytes = try? FileContents.read(path, limitBytes: limitBytes) else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
    }
}
