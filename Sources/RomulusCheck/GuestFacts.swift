/// A guest of this host, as far as its protection depends on it.
public struct GuestFacts: Equatable, Sendable {
    public var name: String
    public var isParavirtual: Bool
    /// The most that it may have.
    public var memoryKiB: UInt64
    public var processors: Int
    /// By their names in the guest; one that cannot be written to is nothing that a replica could lack.
    public var writableDisks: [String] = []
    public var networkDevices: [NetworkDevice]
    /// PCI devices, by their addresses.
    public var passedThrough: [String] = []
    /// The program that emulates devices for it, where there is one.
    public var deviceModel: String?
    /// Files that it boots from, on the host.
    public var firmware: [String] = []
    public var isStartedAtBoot = false

    public struct NetworkDevice: Equatable, Sendable {
        public var number: Int
        /// In a driver domain.
        public var isElsewhere: Bool
        public var bridge: String?
        /// With its path, or of /etc/xen/scripts.
        public var script: String?

        fileprivate var scriptPath: String? {
            script.map { $0.hasPrefix("/") ? $0 : "/etc/xen/scripts/\($0)" }
        }

        /// Where the script puts it; others than these look at no bridge, though libxl always names one.
        fileprivate var neededBridge: String? {
            switch scriptPath?.split(separator: "/").last {
            case "vif-bridge": bridge
            // With what is behind it, a VLAN and trunks.
            case "vif-openvswitch": bridge.map { String($0.prefix { $0 != "." && $0 != ":" }) }
            default: nil
            }
        }
    }

    /// Something of the host's, and why it is missed where it is not.
    struct Need {
        var look: HostLook
        /// As in "which connects web's vif 0".
        var use: String
        var remedy: String
    }

    var needs: [Need] {
        var needs: [Need] = []
        for device in networkDevices where !device.isElsewhere {
            let vif = "\(name)'s vif \(device.number)"
            if let bridge = device.neededBridge {
                needs.append(
                    Need(look: .init(.network, bridge), use: "where \(vif) belongs", remedy: "make that bridge there"))
            }
            if let script = device.scriptPath {
                needs.append(Need(look: .init(.program, script), use: "which connects \(vif)", remedy: "copy it there"))
            }
        }
        if let deviceModel {
            needs.append(
                Need(
                    look: .init(.program, deviceModel), use: "which is \(name)'s device model",
                    remedy: "install it there (on Debian qemu-system-xen)"))
        }
        for path in firmware {
            needs.append(
                Need(
                    look: .init(.file, path), use: "from which \(name) boots anew",
                    remedy: "install the same firmware there"))
        }
        return needs
    }

    /// What the backup is to be asked.
    public var looks: [HostLook] {
        var looks: [HostLook] = []
        for look in needs.map(\.look) + [HostLook(.starts, name)] where !looks.contains(look) { looks.append(look) }
        return looks
    }

    /// What Xen needs for a copy of it: the guest, and the tables that translate its memory.
    var replicaKiB: UInt64 {
        let tables = isParavirtual ? 0 : (UInt64(processors) << 10) + (memoryKiB >> 7)
        return memoryKiB + tables + (4 << 10)
    }
}
