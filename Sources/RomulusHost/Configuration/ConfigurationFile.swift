import CXen
import Glibc

/// A file in xl.conf's syntax, parsed by libxlutil, which is the authority on what a value is.
///
/// libxlutil gives no list of the keys it has found, nor their lines, so those come from a scan of our own.
package final class ConfigurationFile {
    private static let longestBytes = 1 << 20

    private let path: String
    private let parsed: OpaquePointer
    private let lines: [String: Int]
    private let report: Report

    /// - Returns: nil when there is no such file.
    package static func read(path: String) throws(ConfigurationError) -> ConfigurationFile? {
        guard let text = try contents(of: path) else { return nil }
        return try ConfigurationFile(text: text, path: path)
    }

    init(text: [UInt8], path: String) throws(ConfigurationError) {
        guard let report = Report() else { throw .unreadable(path: path, reason: "out of memory") }
        guard let parsed = xlu_cfg_init(report.file, path) else {
            throw .unreadable(path: path, reason: "out of memory")
        }
        let code = text.withUnsafeBytes {
            xlu_cfg_readdata(parsed, $0.baseAddress?.assumingMemoryBound(to: CChar.self), Int32($0.count))
        }
        guard code == 0 else {
            xlu_cfg_destroy(parsed)
            let message = report.firstLine
            throw .syntax(message.isEmpty ? "\(path): not in xl.conf's syntax" : message)
        }
        self.path = path
        self.parsed = parsed
        self.report = report
        lines = ConfigurationKeys.lines(in: text)
    }

    deinit {
        xlu_cfg_destroy(parsed)
    }

    /// - Parameter prefix: of keys that end with a name.
    func requireKnown(_ known: [String], prefix: String) throws(ConfigurationError) {
        let named = keys(withPrefix: prefix)
        let unknown = lines.filter { !known.contains($0.key) && !named.contains($0.key) }.min { $0.value < $1.value }
        if let unknown { throw .unknownKey(path: path, line: unknown.value, key: unknown.key) }
    }

    /// In the file's order.
    func keys(withPrefix prefix: String) -> [String] {
        lines.filter { $0.key.hasPrefix(prefix) && $0.key.count > prefix.count }.sorted {
            ($0.value, $0.key) < ($1.value, $1.key)
        }
        .map(\.key)
    }

    func integer(_ key: String, in allowed: ClosedRange<Int>) throws(ConfigurationError) -> Int? {
        var value = 0
        switch xlu_cfg_get_long(parsed, key, &value, 1) {
        case 0: break
        case ESRCH: return nil
        case ERANGE: throw outOfRange(key, value, allowed: allowed)
        default: throw .notANumber(path: path, line: line(of: key), key: key)
        }
        guard allowed.contains(value) else { throw outOfRange(key, value, allowed: allowed) }
        return value
    }

    package func string(_ key: String) throws(ConfigurationError) -> String? {
        var value: UnsafePointer<CChar>?
        switch xlu_cfg_get_string(parsed, key, &value, 1) {
        case 0: return value.map { String(cString: $0) }
        case ESRCH: return nil
        default: throw .notAString(path: path, line: line(of: key), key: key)
        }
    }

    /// One of these words.
    func choice<Value>(_ key: String, of names: KeyValuePairs<String, Value>) throws(ConfigurationError) -> Value? {
        guard let name = try string(key) else { return nil }
        if let choice = names.first(where: { $0.key == name }) { return choice.value }
        throw .notAChoice(path: path, line: line(of: key), key: key, value: name, allowed: names.map(\.key))
    }

    func strings(_ key: String) throws(ConfigurationError) -> [String]? {
        var list: OpaquePointer?
        var count: Int32 = 0
        switch xlu_cfg_get_list(parsed, key, &list, &count, 1) {
        case 0: break
        case ESRCH: return nil
        default: throw .notAList(path: path, line: line(of: key), key: key)
        }
        return (0..<count).compactMap { xlu_cfg_get_listitem(list, $0).map { String(cString: $0) } }
    }

    func error(at key: String, _ fault: ConfigurationError.Fault) -> ConfigurationError {
        .badSetting(path: path, line: line(of: key), fault)
    }

    func outOfRange(_ key: String, _ value: Int, allowed: ClosedRange<Int>) -> ConfigurationError {
        .outOfRange(path: path, line: line(of: key), key: key, value: value, allowed: allowed)
    }

    private func line(of key: String) -> Int { lines[key] ?? 0 }

    private static func contents(of path: String) throws(ConfigurationError) -> [UInt8]? {
        let text: [UInt8]
        do throws(SystemError) {
            text = try FileContents.read(path, limitBytes: longestBytes + 1)
        } catch {
            if error.code == ENOENT { return nil }
            throw .unreadable(path: path, reason: String(cString: strerror(error.code)))
        }
        guard text.count <= longestBytes else { throw .unreadable(path: path, reason: "longer than 1 MiB") }
        return text
    }

    /// Where libxlutil writes its complaints: a stream into memory.
    private final class Report {
        private let bytes = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: 1)
        private let count = UnsafeMutablePointer<Int>.allocate(capacity: 1)
        let file: UnsafeMutablePointer<FILE>

        init?() {
            bytes.initialize(to: nil)
            count.initialize(to: 0)
            // The stream keeps both addresses for its life.
            guard let file = open_memstream(bytes, count) else { return nil }
            self.file = file
        }

        deinit {
            fclose(file)
            free(bytes.pointee)
            bytes.deallocate()
            count.deallocate()
        }

        var firstLine: String {
            fflush(file)
            guard let bytes = bytes.pointee else { return "" }
            return String(cString: bytes).split(separator: "\n").first.map(String.init) ?? ""
        }
    }
}

/// Finds the keys that a text in xl.conf's syntax sets, and their lines.
enum ConfigurationKeys {
    static func lines(in text: [UInt8]) -> [String: Int] {
        var found: [String: Int] = [:]
        var line = 1
        var depth = 0
        var word: [UInt8] = []
        var index = 0
        while index < text.count {
            let byte = text[index]
            index += 1
            switch byte {
            case UInt8(ascii: "#"):
                while index < text.count, text[index] != UInt8(ascii: "\n") { index += 1 }
            case UInt8(ascii: "\""), UInt8(ascii: "'"):
                // libxlutil has accepted the text, so every string ends, and on its own line.
                while index < text.count, text[index] != byte {
                    index += text[index] == UInt8(ascii: "\\") ? 2 : 1
                }
                index += 1
            case UInt8(ascii: "["): depth += 1
            case UInt8(ascii: "]"): depth -= 1
            case UInt8(ascii: "\n"):
                line += 1
                word = []
            case UInt8(ascii: ";"): word = []
            case UInt8(ascii: "=") where depth == 0:
                if !word.isEmpty { found[String(decoding: word, as: UTF8.self)] = line }
                word = []
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"),
                UInt8(ascii: "."):
                if depth == 0 { word.append(byte) }
            default: break
            }
        }
        return found
    }
}
