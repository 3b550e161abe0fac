import CXen
import Glibc

/// libxl, for a program that only asks; it complains to nobody.
package final class Toolstack {
    var context: OpaquePointer?
    private let nowhere: UnsafeMutablePointer<FILE>
    private let logger: UnsafeMutablePointer<xentoollog_logger>

    package init() throws(ToolstackError) {
        guard let nowhere = fopen("/dev/null", "we") else { throw .noMemory }
        guard let logger = xtl_createlogger_stdiostream(nowhere, XTL_CRITICAL, 0) else {
            fclose(nowhere)
            throw .noMemory
        }
        self.nowhere = nowhere
        // Its first member, as of every logger.
        self.logger = UnsafeMutablePointer(logger)
        guard libxl_ctx_alloc(&context, LIBXL_VERSION, 0, self.logger) == 0 else { throw .noXen }
    }

    deinit {
        if context != nil { libxl_ctx_free(context) }
        xtl_logger_destroy(logger)
        fclose(nowhere)
    }

    func xen() throws(ToolstackError) -> HostReport.Xen {
        guard let version = libxl_get_version_info(context)?.pointee else { throw .noAnswer("its version") }
        var info = libxl_physinfo()
        libxl_physinfo_init(&info)
        defer { libxl_physinfo_dispose(&info) }
        var freeKiB: UInt64 = 0
        guard libxl_get_physinfo(context, &info) == 0, libxl_get_free_memory(context, &freeKiB) == 0 else {
            throw .noAnswer("its memory")
        }
        let commandLine = version.commandline.map { String(cString: $0) } ?? ""
        return HostReport.Xen(
            version: "\(version.xen_version_major).\(version.xen_version_minor)"
                + (version.xen_version_extra.map { String(cString: $0) } ?? ""),
            hasShadow: info.cap_shadow, freeKiB: freeKiB,
            // xl's default: it leaves dom0 alone where the boot loader has set dom0's memory.
            takesFromDom0: !commandLine.split(separator: " ").contains { $0.hasPrefix("dom0_mem=") })
    }

    /// - Returns: nil where no guest has that name.
    func guest(named name: String) throws(ToolstackError) -> GuestFacts? {
        var id: UInt32 = 0
        guard libxl_name_to_domid(context, name, &id) == 0 else { return nil }
        var info = libxl_dominfo()
        libxl_dominfo_init(&info)
        defer { libxl_dominfo_dispose(&info) }
        guard libxl_domain_info(context, &info, id) == 0 else { return nil }
        var count: Int32 = 0
        let disks = libxl_device_disk_list(context, id, &count)
        let diskCount = disks == nil ? 0 : Int(count)
        libxl_device_disk_list_free(disks, disks == nil ? 0 : count)
        return GuestFacts(
            name: name, isParavirtual: info.domain_type == LIBXL_DOMAIN_TYPE_PV,
            memoryKiB: max(info.max_memkb, info.current_memkb), processors: Int(info.vcpu_max_id) + 1, disks: diskCount,
            networkDevices: networkDevices(of: id))
    }

    /// Where the other end of each is.
    private func networkDevices(of id: UInt32) -> [GuestFacts.NetworkDevice] {
        var count: Int32 = 0
        guard let devices = libxl_device_nic_list(context, id, &count) else { return [] }
        defer { libxl_device_nic_list_free(devices, count) }
        return (0..<Int(count)).map {
            GuestFacts.NetworkDevice(number: Int(devices[$0].devid), isElsewhere: devices[$0].backend_domid != 0)
        }
    }
}

package enum ToolstackError: Error, CustomStringConvertible {
    case noMemory
    case noXen
    case noAnswer(String)

    package var description: String {
        switch self {
        case .noMemory: "out of memory"
        case .noXen: "Xen's toolstack cannot be reached: boot this host with Xen, and start its services as root"
        case .noAnswer(let what): "Xen does not tell \(what)"
        }
    }
}

/// A guest of this host, as far as its protection depends on it.
public struct GuestFacts: Equatable, Sendable {
    public var name: String
    public var isParavirtual: Bool
    /// The most that it may have.
    public var memoryKiB: UInt64
    public var processors: Int
    public var disks: Int
    public var networkDevices: [NetworkDevice]

    public struct NetworkDevice: Equatable, Sendable {
        public var number: Int
        /// In a driver domain.
        public var isElsewhere: Bool
    }

    /// What Xen needs for a copy of it: the guest, and the tables that translate its memory.
    var replicaKiB: UInt64 {
        let tables = isParavirtual ? 0 : (UInt64(processors) << 10) + (memoryKiB >> 7)
        return memoryKiB + tables + (4 << 10)
    }
}
