import CXen
import Glibc
import RomulusHost

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
            takesFromDom0: Self.takesFromDom0(commandLine: commandLine, setting: Self.autoballoon()))
    }

    /// - Returns: nil where no guest has that name.
    func guest(named name: String) throws(ToolstackError) -> GuestFacts? {
        var id: UInt32 = 0
        guard libxl_name_to_domid(context, name, &id) == 0 else { return nil }
        var info = libxl_dominfo()
        libxl_dominfo_init(&info)
        defer { libxl_dominfo_dispose(&info) }
        guard libxl_domain_info(context, &info, id) == 0 else { return nil }
        return GuestFacts(
            name: name, isParavirtual: info.domain_type == LIBXL_DOMAIN_TYPE_PV,
            memoryKiB: max(info.max_memkb, info.current_memkb), processors: Int(info.vcpu_max_id) + 1,
            writableDisks: writableDisks(of: id), networkDevices: networkDevices(of: id),
            passedThrough: passedThrough(of: id), deviceModel: DeviceModel.program(of: id),
            firmware: info.domain_type == LIBXL_DOMAIN_TYPE_HVM ? firmware(of: id) : [],
            isStartedAtBoot: AutoStart.file(of: name) != nil)
    }

    /// As xl decides: by its own setting, else it leaves dom0 alone where the boot loader has set dom0's memory.
    static func takesFromDom0(commandLine: String, setting: String?) -> Bool {
        switch setting {
        case "on", "1": true
        case "off", "0": false
        default: !commandLine.split(separator: " ").contains { $0.hasPrefix("dom0_mem=") }
        }
    }

    private static func autoballoon() -> String? {
        guard let file = try? ConfigurationFile.read(path: "/etc/xen/xl.conf") else { return nil }
        return try? file.string("autoballoon")
    }

    private func writableDisks(of id: UInt32) -> [String] {
        var count: Int32 = 0
        guard let disks = libxl_device_disk_list(context, id, &count) else { return [] }
        defer { libxl_device_disk_list_free(disks, count) }
        return (0..<Int(count)).compactMap {
            guard disks[$0].canBeWritten else { return nil }
            return disks[$0].vdev.map { String(cString: $0) } ?? "?"
        }
    }

    private func passedThrough(of id: UInt32) -> [String] {
        var count: Int32 = 0
        guard let devices = libxl_device_pci_list(context, id, &count) else { return [] }
        defer { libxl_device_pci_list_free(devices, count) }
        return (0..<Int(count)).map {
            hexadecimal(devices[$0].bus) + ":" + hexadecimal(devices[$0].dev) + ".\(devices[$0].func)"
        }
    }

    private func hexadecimal(_ byte: UInt8) -> String { (byte < 16 ? "0" : "") + String(byte, radix: 16) }

    /// What its configuration names, as libxl keeps it, and what it boots from by default where that is found here.
    private func firmware(of id: UInt32) -> [String] {
        var bytes: UnsafeMutablePointer<UInt8>?
        var count: Int32 = 0
        guard libxl_userdata_retrieve(context, id, "libxl-json", &bytes, &count) == 0, let bytes else { return [] }
        defer { free(bytes) }
        var config = libxl_domain_config()
        libxl_domain_config_init(&config)
        defer { libxl_domain_config_dispose(&config) }
        let text = String(
            decoding: UnsafeBufferPointer(start: bytes, count: Int(count)).prefix { $0 != 0 }, as: UTF8.self)
        guard libxl_domain_config_from_json(context, &config, text) == 0 else { return [] }
        let hvm = config.b_info.u.hvm
        return [hvm.firmware, hvm.system_firmware].compactMap { $0.map { String(cString: $0) } }
            .filter { $0.hasPrefix("/") } + Self.usualFirmware.filter { access($0, R_OK) == 0 }
    }

    private static let usualFirmware = ["/usr/lib/xen-4.17/boot/hvmloader", "/usr/lib/xen/boot/hvmloader"]

    /// Where the other end of each is.
    private func networkDevices(of id: UInt32) -> [GuestFacts.NetworkDevice] {
        var count: Int32 = 0
        guard let devices = libxl_device_nic_list(context, id, &count) else { return [] }
        defer { libxl_device_nic_list_free(devices, count) }
        return (0..<Int(count)).map {
            GuestFacts.NetworkDevice(
                number: Int(devices[$0].devid), isElsewhere: devices[$0].backend_domid != 0,
                bridge: devices[$0].bridge.map { String(cString: $0) },
                script: devices[$0].script.map { String(cString: $0) })
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

/// The program that emulates a guest's devices, as it was started: that path is what libxl will start on the backup.
private enum DeviceModel {
    static func program(of id: UInt32) -> String? {
        guard let pid = XenstoreConnection().read("/local/domain/\(id)/image/device-model-pid"),
            pid.allSatisfy(\.isNumber), let line = try? FileContents.read("/proc/\(pid)/cmdline", limitBytes: 4096)
        else { return nil }
        let program = String(decoding: line.prefix { $0 != 0 }, as: UTF8.self)
        return program.hasPrefix("/") ? program : nil
    }
}
