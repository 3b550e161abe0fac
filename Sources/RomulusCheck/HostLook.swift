import Glibc
import RomulusHost

/// A question about a host that it is asked once it is known what a guest needs there.
public struct HostLook: Hashable, Sendable {
    public enum Kind: String, Sendable {
        /// A network device, bridges among them.
        case network
        case program
        case file
        /// Whether a guest of that name is started when the host boots.
        case starts
    }

    public var kind: Kind
    public var name: String

    static let word = "look"

    public init(_ kind: Kind, _ name: String) {
        self.kind = kind
        self.name = name
    }

    /// As it comes from the other host.
    init?(line: String) {
        let words = line.split(separator: " ", maxSplits: 2)
        guard words.count == 3, words[0] == Self.word, let kind = Kind(rawValue: String(words[1])) else { return nil }
        self.init(kind, String(words[2]))
    }

    /// Nil where the name would not stay on its line.
    var line: String? {
        let isPlain = name.utf8.count <= 512 && name.unicodeScalars.allSatisfy { $0.properties.isPrintable }
        return isPlain && !name.isEmpty ? "\(Self.word) \(kind.rawValue) \(name)" : nil
    }

    /// Of the host where it runs.
    func isSo() -> Bool {
        switch kind {
        case .network: !name.contains("/") && access("/sys/class/net/\(name)", F_OK) == 0
        case .program: name.hasPrefix("/") && access(name, X_OK) == 0
        case .file: name.hasPrefix("/") && access(name, R_OK) == 0
        case .starts: AutoStart.file(of: name) != nil
        }
    }
}
