import Glibc

/// Who else receives guests on this host.
public enum OtherReceivers {
    /// Whether some `xl migrate-receive` runs that is not Romulus's, as of `xl migrate`: it holds none of our locks, and which
    /// domain it fills nobody can tell. Yes also where this cannot be seen.
    public static func areThere(proc: String = "/proc", locks: String = RunLock.directory) -> Bool {
        guard let entries = names(in: proc) else { return true }
        return entries.contains { entry in
            guard pid_t(entry) != nil, isReceiver("\(proc)/\(entry)/cmdline") else { return false }
            // One that is going, or just coming, has none yet, or no more.
            guard let files = names(in: "\(proc)/\(entry)/fd") else { return false }
            return !files.contains { target(of: "\(proc)/\(entry)/fd/\($0)").hasPrefix(locks + "/") }
        }
    }

    private static func isReceiver(_ path: String) -> Bool {
        guard let bytes = try? FileContents.read(path, limitBytes: 4096) else { return false }
        let words = bytes.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        guard let program = words.first?.split(separator: "/").last else { return false }
        return program.hasPrefix("xl") && words.contains("migrate-receive")
    }

    private static func names(in folder: String) -> [String]? {
        guard let entries = opendir(folder) else { return nil }
        defer { closedir(entries) }
        var names: [String] = []
        while let entry = readdir(entries) {
            names.append(
                withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
        }
        return names
    }

    private static func target(of link: String) -> String {
        var target = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink(link, &target, target.count)
        return String(decoding: target.prefix(max(count, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
