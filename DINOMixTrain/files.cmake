# Written by Testing/packaging/list_files.py (`make lists`); do not edit.
set(SCRIPTS
  "DINOMixTrain.py"
  "DINOMixTrainLib/__init__.py"
  "DINOMixTrainLib/logic.py"
  "DINOMixTrainLib/page.py"
  "DINOMixTrainLib/pages.py"
  "DINOMixTrainLib/parameter_node.py"
  "DINOMixTrainLib/run_logic.py"
  "DINOMixTrainLib/run_page.py"
  "DINOMixTrainLib/self_test.py"
  "DINOMixTrainLib/snapshot_view.py"
  "DINOMixTrainLib/widget.py"
  )

set(RESOURCES
  "Resources/Icons/DINOMixTrain.png"
  "Resources/UI/DINOMixTrain.ui"
  "Resources/UI/DINOMixTrainCases.ui"
  "Resources/UI/DINOMixTrainResult.ui"
  "Resources/UI/DINOMixTrainRun.ui"
  "Resources/UI/DINOMixTrainTraining.ui"
  )
