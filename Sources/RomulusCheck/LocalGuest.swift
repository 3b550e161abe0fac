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

    package struct State: Equatable, Sendable {
        package var isPaused = false
        /// For a checkpoint, or to be migrated.
        package var isSuspended = false
        /// Powered off, rebooted, crashed, or about to be gone.
        package var hasEnded = false

        package init(isPaused: Bool = false, isSuspended: Bool = false, hasEnded: Bool = false) {
            self.isPaused = isPaused
            self.isSuspended = isSuspended
            self.hasEnded = hasEnded
        }
    }
}

extension Toolstack {
    /// None where there is no Xen, or it does not answer.
    package static func guests() -> [LocalGuest] { (try? Toolstack())?.guests() ?? [] }

    package func state(of id: UInt32) -> LocalGuest.State? {
        var info = libxl_dominfo()
        libxl_dominfo_init(&info)
        defer { libxl_dominfo_dispose(&info) }
        guard libxl_domain_info(context, &info, id) == 0 else { return nil }
        let isSuspended = info.shutdown && info.shutdown_reason == LIBXL_SHUTDOWN_REASON_SUSPEND
        return .init(
            isPaused: info.paused, isSuspended: isSuspended,
            hasEnded: info.dying || (info.shutdown && !isSuspended))
    }

    /// With its device model, as after a checkpoint.
    package func resume(_ id: UInt32) -> Bool { libxl_domain_resume(context, id, 1, nil) == 0 }

    package func pause(_ id: UInt32) -> Bool { libxl_domain_pause(context, id, nil) == 0 }

    /// Once: Xen counts pauses.
    package func unpause(_ id: UInt32) -> Bool { libxl_domain_unpause(context, id, nil) == 0 }

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
