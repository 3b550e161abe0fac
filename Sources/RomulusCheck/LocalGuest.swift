import CXen
import Glibc
import RomulusHost

/// A domain of this host, whose name may be another one tomorrow.
package struct LocalGuest: Equatable, Sendable {
    package var id: UInt32
    /// As xl writes it.
    package var uuid: String
    package var name: String

    package init(id: UInt32, uuid: String, name: String) {
        self.id = id
        self.uuid = uuid
        self.name = name
    }

    /// xl's name for a copy that is not complete; where a guest is copied to its own host there are two of its UUID.
    package var isIncoming: Bool { name.hasSuffix("--incoming") }
}

extension Toolstack {
    /// None where there is no Xen, or it does not answer.
    package static func guests() -> [LocalGuest] { (try? Toolstack())?.guests() ?? [] }

    package func guests() -> [LocalGuest] {
        var count: Int32 = 0
        guard let domains = libxl_list_domain(context, &count) else { return [] }
        defer { libxl_dominfo_list_free(domains, count) }
        return (0..<Int(count)).compactMap { place in
            let id = domains[place].domid
            guard let raw = libxl_domid_to_name(context, id) else { return nil }
            defer { free(raw) }
            return LocalGuest(id: id, uuid: text(of: domains[place].uuid), name: String(cString: raw))
        }
    }
}
