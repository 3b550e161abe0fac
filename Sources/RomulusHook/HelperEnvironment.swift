import CLinux
import Glibc
import RomulusHost

/// What the save helper finds in its environment: set while libxl may start it, gone before anything else is started.
struct HelperEnvironment {
    /// Where the patched save helper (patches/) finds the shared object.
    private static let extensionName = "LIBXL_SAVE_HELPER_EXTENSION"

    private let control: Int32
    private let lease: Int32
    /// It holds this until it ends, for the guard to see, and does nothing with it.
    private let mark: Int32
    private let earlierHelper: String?

    init(control: Int32, lease: Int32, mark: Int32, plugins: PluginSettings) {
        self.control = control
        self.lease = lease
        self.mark = mark
        earlierHelper = getenv("LIBXL_SAVE_HELPER").map { String(cString: $0) }
        if let launcher = launchValue(ROMULUS_HELPER) {
            set("LIBXL_SAVE_HELPER", launcher)
            set("ROMULUS_LIBRARY", launchValue(ROMULUS_LIBRARY))
            set("ROMULUS_STOCK_HELPER", launchValue(ROMULUS_STOCK_HELPER))
        } else {
            set(Self.extensionName, launchValue(ROMULUS_LIBRARY))
        }
        set("ROMULUS_CONTROL", String(control))
        set("ROMULUS_LEASE", String(lease))
        set("ROMULUS_PLUGINS", plugins.environmentValue)
        for one in [control, lease, mark] { DescriptorIO.setCloseOnExec(one, false) }
    }

    func withdraw() {
        for one in [control, lease, mark] { DescriptorIO.setCloseOnExec(one, true) }
        set("LIBXL_SAVE_HELPER", earlierHelper)
        unsetenv(Self.extensionName)
        for name in ["LIBRARY", "STOCK_HELPER", "CONTROL", "LEASE", "PLUGINS"] { unsetenv("ROMULUS_\(name)") }
    }

    private func set(_ name: String, _ value: String?) {
        if let value { setenv(name, value, 1) } else { unsetenv(name) }
    }

    private func launchValue(_ variable: romulus_launch_variable) -> String? {
        romulus_launch_value(variable).map { String(cString: $0) }
    }
}
