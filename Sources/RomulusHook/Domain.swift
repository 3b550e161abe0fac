import CXen
import Glibc
import RomulusCore
import RomulusHost

/// What libxl knows of a domain.
struct Domain {
    let context: OpaquePointer?
    let id: UInt32

    enum State: Equatable {
        case gone
        /// Shut down for suspension: a checkpoint or a migration is under way, or was.
        case suspended
        /// Powered off, rebooted, crashed.
        case shutDown
        case alive
    }

    struct Facts {
        var state: State
        /// By an admin, or by the guard of a run that was killed.
        var isPaused: Bool
        var isParavirtual: Bool
        /// The most memory that the guest may have.
        var memoryKiB: UInt64
        /// As xl writes it.
        var uuid: String
    }

    /// The domain of that name, or nil.
    static func named(_ name: String, context: OpaquePointer?) -> Domain? {
        var id: UInt32 = 0
        guard libxl_name_to_domid(context, name, &id) == 0 else { return nil }
        return Domain(context: context, id: id)
    }

    var name: String? {
        guard let raw = libxl_domid_to_name(context, id) else { return nil }
        defer { free(raw) }
        return String(cString: raw)
    }

    func facts() -> Facts {
        var info = libxl_dominfo()
        libxl_dominfo_init(&info)
        defer { libxl_dominfo_dispose(&info) }
        guard libxl_domain_info(context, &info, id) == 0 else {
            return Facts(state: .gone, isPaused: false, isParavirtual: false, memoryKiB: 0, uuid: "")
        }
        let state: State =
            if info.dying { .gone } else if !info.shutdown { .alive } else {
                info.shutdown_reason == LIBXL_SHUTDOWN_REASON_SUSPEND ? .suspended : .shutDown
            }
        return Facts(
            state: state, isPaused: info.paused, isParavirtual: info.domain_type == LIBXL_DOMAIN_TYPE_PV,
            memoryKiB: max(info.max_memkb, info.current_memkb), uuid: text(of: info.uuid))
    }

    var state: State { facts().state }

    /// Whether anything but memory belongs to its state. Nothing that cannot be written to does.
    var hasWritableDisks: Bool {
        var count: Int32 = 0
        guard let disks = libxl_device_disk_list(context, id, &count) else { return false }
        defer { libxl_device_disk_list_free(disks, count) }
        return (0..<Int(count)).contains { disks[$0].canBeWritten }
    }

    /// Whether it has PCI devices of the host's.
    var hasPassedThrough: Bool {
        var count: Int32 = 0
        guard let devices = libxl_device_pci_list(context, id, &count) else { return false }
        libxl_device_pci_list_free(devices, count)
        return count > 0
    }

    /// Numbers of its network devices, wherever their other ends are.
    var networkDevices: Set<Int> {
        var count: Int32 = 0
        guard let devices = libxl_device_nic_list(context, id, &count) else { return [] }
        defer { libxl_device_nic_list_free(devices, count) }
        return Set((0..<Int(count)).map { Int(devices[$0].devid) })
    }

    func pause() -> Bool { libxl_domain_pause(context, id, nil) == 0 }

    func destroy() -> Bool { libxl_domain_destroy(context, id, nil) == 0 }

    /// Whether this hypervisor can log the dirty pages of a PV guest: it takes shadow paging.
    static func canLogParavirtualPages(context: OpaquePointer?) -> Bool {
        var info = libxl_physinfo()
        libxl_physinfo_init(&info)
        defer { libxl_physinfo_dispose(&info) }
        return libxl_get_physinfo(context, &info) == 0 && info.cap_shadow
    }
}
