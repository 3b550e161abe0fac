import Glibc

/// An IP address; one of IPv4 is written as IPv6 maps it, so that both ends of a connection know it as the same.
public struct HostAddress: Hashable, Comparable, Sendable, CustomStringConvertible {
    let bytes: [UInt8]

    private static let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]

    init?(bytes: [UInt8]) {
        switch bytes.count {
        case 4: self.bytes = Self.mapped + bytes
        case 16: self.bytes = bytes
        default: return nil
        }
    }

    /// In the usual notation; a scope is no part of it.
    public init?(_ text: some StringProtocol) {
        let text = String(text.prefix { $0 != "%" })
        var four = in_addr()
        var six = in6_addr()
        let bytes =
            inet_pton(AF_INET, text, &four) == 1
            ? withUnsafeBytes(of: four) { Array($0) }
            : inet_pton(AF_INET6, text, &six) == 1 ? withUnsafeBytes(of: six) { Array($0) } : []
        self.init(bytes: bytes)
    }

    /// What a name stands for on this host, now. May ask a name server.
    public static func resolved(_ name: String) -> [HostAddress] {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var first: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(name, nil, &hints, &first) == 0 else { return [] }
        defer { freeaddrinfo(first) }
        var found: [HostAddress] = []
        var next = first
        while let entry = next?.pointee {
            next = entry.ai_next
            guard let address = entry.ai_addr else { continue }
            let raw = UnsafeRawPointer(address)
            let bytes: [UInt8] =
                switch entry.ai_family {
                case AF_INET: withUnsafeBytes(of: raw.loadUnaligned(as: sockaddr_in.self).sin_addr) { Array($0) }
                case AF_INET6: withUnsafeBytes(of: raw.loadUnaligned(as: sockaddr_in6.self).sin6_addr) { Array($0) }
                default: []
                }
            if let one = HostAddress(bytes: bytes), !found.contains(one) { found.append(one) }
        }
        return found
    }

    /// The same for whoever compares the two.
    public static func < (left: HostAddress, right: HostAddress) -> Bool {
        left.bytes.lexicographicallyPrecedes(right.bytes)
    }

    public var description: String {
        let isFour = bytes.starts(with: Self.mapped)
        var raw = isFour ? Array(bytes.suffix(4)) : bytes
        var text = [CChar](repeating: 0, count: 64)
        guard inet_ntop(isFour ? AF_INET : AF_INET6, &raw, &text, socklen_t(text.count)) != nil else { return "?" }
        return text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }
}
