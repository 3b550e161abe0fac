import CLinux
import Glibc
import RomulusHost

/// What the save helper finds in its environment: set while libxl may start it, gone before anything else is started.
struct HelperEnvironment {
    private let control: Int32
    private let link: Int32
    private let earlierHelper: String?

    init(control: Int32, link: Int32) {
        self.control = control
        self.link = link
        earlierHelper = getenv("LIBXL_SAVE_HELPER").map { String(cString: $0) }
        set("LIBXL_SAVE_HELPER", launchValue(ROMULUS_HELPER))
        set("ROMULUS_LIBRARY", launchValue(ROMULUS_LIBRARY))
        set("ROMULUS_STOCK_HELPER", launchValue(ROMULUS_STOCK_HELPER))
        set("ROMULUS_CONTROL", String(control))
        set("ROMULUS_LINK", String(link))
        DescriptorIO.setCloseOnExec(control, false)
        DescriptorIO.setCloseOnExec(link, false)
    }

    func withdraw() {
        DescriptorIO.setCloseOnExec(control, true)
        DescriptorIO.setCloseOnExec(link, true)
        set("LIBXL_SAVE_HELPER", earlierHelper)
        for name in ["ROMULUS_LIBRARY", "ROMULUS_STOCK_HELPER", "ROMULUS_CONTROL", "ROMULUS_LINK"] { unsetenv(name) }
    }

    private func set(_ name: String, _ value: String?) {
        if let value { setenv(name, value, 1) } else { unsetenv(name) }
    }

    private func launchValue(_ variable: romulus_launch_variable) -> String? {
        romulus_launch_value(variable).map { String(cString: $0) }
    }
}
